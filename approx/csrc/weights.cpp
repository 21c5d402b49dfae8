// Weight codes as the operands of an integer matrix product.

#include "quantize.h"

namespace CROSSLAYER_BUILD {
namespace {

// Operand codes, one byte each. Returns whether all are integers that the operand can hold.
bool as_indices(const CrosslayerWeights& job, int64_t count) {
    const CrosslayerWeights local = job;  // a copy that the stores below cannot change
    uint32_t bad = 0;
    for (int64_t i = 0; i < count; ++i) {
        const float code = local.codes[i], rounded = code + kRounder;
        bad |= !(code >= local.low && code <= local.high) | (rounded - kRounder != code);
        uint32_t bits;
        std::memcpy(&bits, &rounded, 4);
        local.indices[i] = static_cast<uint8_t>(bits & local.code_mask);
    }
    return bad == 0;
}

// Marks the terms to which any weight contributes, or the first if there is none. Returns their number.
int32_t find_used(const CrosslayerWeights& job, int64_t count) {
    if (job.terms == 1) return job.used[0] = 1;
    bool occurs[256] = {};
    for (int64_t i = 0; i < count; ++i) occurs[job.indices[i]] = true;
    int32_t found = 0;
    for (int64_t term = 0; term < job.terms; ++term) {
        bool used = false;
        for (int64_t code = 0; code < job.factor_entries; ++code)
            used |= occurs[code] && job.factors[term * job.factor_entries + code] != 0;
        job.used[term] = used;
        found += used;
    }
    if (found != 0) return found;
    job.used[0] = 1;
    return 1;
}

}  // namespace

int32_t weight_operands(const CrosslayerWeights& job) {
    const int64_t inner = job.channels * job.kernel;
    if (!as_indices(job, job.outputs * inner)) return -1;
    const int32_t used = find_used(job, job.outputs * inner);
    int8_t* to = job.operands;
    for (int64_t output = 0; output < job.outputs; ++output) {
        uint32_t correction = 0;
        for (int64_t place = 0; place < job.kernel; ++place)
            for (int64_t term = 0; term < job.terms; ++term) {
                if (!job.used[term]) continue;
                const int8_t* factors = job.factors + term * job.factor_entries;
                const uint8_t* indices = job.indices + output * inner + place;
                int32_t sum = 0;
                for (int64_t channel = 0; channel < job.channels; ++channel) {
                    const int8_t factor = factors[indices[channel * job.kernel]];
                    to[channel] = factor;
                    sum += factor;
                }
                to += job.channels;
                correction += uint32_t(sum) * uint32_t(job.shifts[term]);
            }
        job.correction[output] = int32_t(correction);
    }
    return used;
}

}  // namespace CROSSLAYER_BUILD
