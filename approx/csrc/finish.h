// From sums to the result: rescaled, and transposed from positions by outputs to outputs by positions.
#pragma once

#include <algorithm>
#include <cstring>
#include <limits>

#include "common.h"

namespace CROSSLAYER_BUILD {
namespace {

typedef uint32_t Quad __attribute__((vector_size(16), may_alias));

constexpr int64_t kTile = 64;  // positions that are finished together

// to[n][m] = from[m][n].
template <int Lanes>
void transpose_tile(const uint32_t* from, uint32_t* to) {
    for (int64_t m = 0; m < kTile; m += 4)
        for (int64_t n = 0; n < Lanes; n += 4) {
            Quad a[4], b[4];
            for (int i = 0; i < 4; ++i) a[i] = *reinterpret_cast<const Quad*>(from + (m + i) * Lanes + n);
            for (int i = 0; i < 2; ++i) {
                b[2 * i] = CROSSLAYER_SHUFFLE(Quad, a[i], a[i + 2], 0, 4, 1, 5);
                b[2 * i + 1] = CROSSLAYER_SHUFFLE(Quad, a[i], a[i + 2], 2, 6, 3, 7);
            }
            for (int i = 0; i < 2; ++i) {
                a[2 * i] = CROSSLAYER_SHUFFLE(Quad, b[i], b[i + 2], 0, 4, 1, 5);
                a[2 * i + 1] = CROSSLAYER_SHUFFLE(Quad, b[i], b[i + 2], 2, 6, 3, 7);
            }
            for (int i = 0; i < 4; ++i) *reinterpret_cast<Quad*>(to + (n + i) * kTile + m) = a[i];
        }
}

// Writes `lanes` outputs, from `output` on, at any positions.
template <int Lanes>
class Finisher {
  public:
    Finisher(const CrosslayerOutput& out, int64_t image_positions, int64_t outputs, int64_t output, int64_t lanes)
        : to_(out.sums != nullptr ? static_cast<void*>(out.sums) : static_cast<void*>(out.values)),
          as_values_(out.sums == nullptr),
          image_positions_(image_positions),
          outputs_(outputs),
          output_(output),
          lanes_(lanes) {
        if (!as_values_) return;
        for (int64_t n = 0; n < lanes; ++n) {
            scale_[n] = out.scale[output + n];
            bias_[n] = out.bias == nullptr ? 0.0f : out.bias[output + n];
        }
    }

    // Calls sums(m, to) for the Lanes sums of each of `count` positions from `first` on, and stores them.
    template <typename Sums>
    void run(int64_t first, int64_t count, const Sums& sums) {
        for (int64_t start = 0; start < count; start += kTile) {
            const int64_t size = std::min(kTile, count - start);
            for (int64_t m = 0; m < size; ++m) sums(start + m, tile_ + m * Lanes);
            finish(first + start, size);
        }
    }

    // Where the Lanes sums of each of up to kTile positions go, to be stored by `finish`.
    uint32_t* tile() { return tile_; }

    // Stores the sums in the tile, of `count` positions from `first` on.
    void finish(int64_t first, int64_t count) {
        if (as_values_) {
            float scale[Lanes], bias[Lanes];  // copies, which the stores below cannot change
            std::memcpy(scale, scale_, sizeof scale);
            std::memcpy(bias, bias_, sizeof bias);
            for (int64_t m = 0; m < count; ++m) {
                uint32_t* row = tile_ + m * Lanes;
                for (int n = 0; n < Lanes; ++n) {
                    const float value = float(int32_t(row[n])) * scale[n] + bias[n];
                    std::memcpy(row + n, &value, 4);
                }
            }
        }
        store(first, count);
    }

  private:

    void store(int64_t first, int64_t count) {
        auto* to = static_cast<uint32_t*>(to_);
        if (image_positions_ == 1) {
            for (int64_t m = 0; m < count; ++m)
                std::memcpy(to + (first + m) * outputs_ + output_, tile_ + m * Lanes, lanes_ * 4);
            return;
        }
        transpose_tile<Lanes>(tile_, turned_);
        for (int64_t done = 0; done < count;) {  // a tile may span images
            const int64_t image = (first + done) / image_positions_, inside = (first + done) % image_positions_;
            const int64_t run = std::min(count - done, image_positions_ - inside);
            uint32_t* at = to + (image * outputs_ + output_) * image_positions_ + inside;
            for (int64_t n = 0; n < lanes_; ++n)
                std::memcpy(at + n * image_positions_, turned_ + n * kTile + done, run * 4);
            done += run;
        }
    }

    alignas(64) uint32_t tile_[kTile * Lanes] = {};
    alignas(64) uint32_t turned_[Lanes * kTile];
    float scale_[Lanes] = {}, bias_[Lanes] = {};
    void* to_;
    bool as_values_;
    int64_t image_positions_, outputs_, output_, lanes_;
};

// A NaN makes the whole result NaN. Sums cannot express it, so for sums the return value reports it.
inline void fill_with_nan(const CrosslayerOutput& out, int64_t count) {
    if (out.values != nullptr) std::fill_n(out.values, count, std::numeric_limits<float>::quiet_NaN());
}

}  // namespace
}  // namespace CROSSLAYER_BUILD
