// Saturating sums: what an array computes whose running sums are too narrow, one addition after the other. Some positions
// at a time, each with a sum of its own, so that a vector holds sums that do not wait for each other.

#include <algorithm>
#include <cstring>

#include "common.h"

namespace CROSSLAYER_BUILD {
namespace {

constexpr int kLanes = kVectorBytes / 4;
constexpr int kVectors = 64 / kLanes;  // positions of a block over lanes
constexpr int64_t kPositions = 64;

typedef int32_t Lanes __attribute__((vector_size(kVectorBytes), may_alias));

struct Sums {
    Lanes sums[kVectors] = {}, lost[kVectors] = {};

    // Adds a product to the sum of each position, and notes where it saturates.
    inline void add(int vector, Lanes product, Lanes low, Lanes high) {
        const Lanes reached = sums[vector] + product;
        Lanes within = reached > high ? high : reached;
        within = within < low ? low : within;
        lost[vector] |= reached ^ within;
        sums[vector] = within;
    }
};

inline Lanes everywhere(int32_t value) { return Lanes{} + value; }

// Products by factors: sum over terms of activation factor x weight factor. `operands`: (inner, terms, positions).
template <int Terms>
void by_factors(const CrosslayerSaturatingSums& job, const int32_t* operands, const uint8_t* weights, Sums& sums) {
    const Lanes low = everywhere(job.low), high = everywhere(job.high);
    for (int64_t k = 0; k < job.inner; ++k, operands += Terms * kPositions) {
        Lanes factors[Terms];
        for (int term = 0; term < Terms; ++term)
            factors[term] = everywhere(job.weight_factors[term * job.weight_codes + weights[k]]);
        for (int vector = 0; vector < kVectors; ++vector) {
            Lanes product = {};
            for (int term = 0; term < Terms; ++term)
                product += factors[term] *
                           *reinterpret_cast<const Lanes*>(operands + term * kPositions + vector * kLanes);
            sums.add(vector, product, low, high);
        }
    }
}

// Products by a table. `codes`: (inner, positions).
void by_table(const CrosslayerSaturatingSums& job, const uint8_t* codes, const uint8_t* weights, Sums& sums) {
    const Lanes low = everywhere(job.low), high = everywhere(job.high);
    for (int64_t k = 0; k < job.inner; ++k, codes += kPositions) {
        const int32_t* column = job.columns + weights[k] * job.activation_codes;
        for (int vector = 0; vector < kVectors; ++vector) {
            Lanes product;
            for (int i = 0; i < kLanes; ++i) product[i] = column[codes[vector * kLanes + i]];
            sums.add(vector, product, low, high);
        }
    }
}

template <int Terms>
void block_of_sums(const CrosslayerSaturatingSums& job, int64_t block) {
    const int64_t first = block * kPositions, count = std::min(kPositions, job.positions - first);
    // What a block multiplies, an inner index after the other; positions that are missing repeat the last one.
    auto* operands = static_cast<int32_t*>(scratch<0>(job.inner * kPositions * (Terms ? Terms * 4 : 1)));
    auto* codes = reinterpret_cast<uint8_t*>(operands);
    for (int64_t i = 0; i < kPositions; ++i) {
        const uint8_t* row = job.rows + (first + std::min(i, count - 1)) * job.inner;
        for (int64_t k = 0; k < job.inner; ++k) {
            const uint8_t code = row[job.order[k]];
            if (Terms == 0) codes[k * kPositions + i] = code;
            for (int term = 0; term < Terms; ++term)
                operands[(k * Terms + term) * kPositions + i] =
                    job.activation_factors[term * job.activation_codes + code];
        }
    }
    int64_t saturated = 0;
    for (int64_t output = 0; output < job.outputs; ++output) {
        Sums sums;
        const uint8_t* weights = job.weights + output * job.inner;
        if constexpr (Terms == 0)
            by_table(job, codes, weights, sums);
        else
            by_factors<Terms>(job, operands, weights, sums);
        int32_t found[kPositions], lost[kPositions];
        std::memcpy(found, sums.sums, sizeof found);
        std::memcpy(lost, sums.lost, sizeof lost);
        for (int64_t i = 0; i < count; ++i) {
            job.sums[(first + i) * job.outputs + output] = found[i];
            saturated += lost[i] != 0;
        }
    }
    job.saturated[block] = saturated;
}

}  // namespace

void saturating_sums(const CrosslayerSaturatingSums& job, const CrosslayerThreads& given) {
    const CrosslayerThreads threads = unless_small(given, job.positions * job.inner * job.outputs);
    parallel_for(threads, (job.positions + kPositions - 1) / kPositions, [&](int64_t block) {
        switch (job.terms) {
            case 1: return block_of_sums<1>(job, block);
            case 2: return block_of_sums<2>(job, block);
            default: return block_of_sums<0>(job, block);
        }
    });
}

}  // namespace CROSSLAYER_BUILD
