// Quantisation as gradients need it: in float32 in the layout of the values, or in bfloat16 as pixels, with the channels of
// each side by side, which torch's products of these take the least time for.

#include <algorithm>
#include <cstring>

#include "quantize.h"

namespace CROSSLAYER_BUILD {
namespace {

template <typename Body>
void for_runs(const CrosslayerInput& in, const CrosslayerThreads& given, const Body& body) {
    constexpr int64_t kRun = 16384;
    const int64_t size = in.images * in.channels * in.height * in.width;
    const CrosslayerThreads threads = unless_small(given, size);
    parallel_for(threads, (size + kRun - 1) / kRun,
                 [&](int64_t part) { body(part * kRun, std::min(size, (part + 1) * kRun)); });
}

typedef uint16_t Half8 __attribute__((vector_size(16), may_alias));
typedef uint16_t Half8Unaligned __attribute__((vector_size(16), may_alias, aligned(2)));

// to[j][i] = from[i][j] for 8 x 8.
inline void transpose_8x8(const uint16_t* from, int64_t from_stride, uint16_t* to, int64_t to_stride) {
    Half8 a[8], b[8];
    for (int i = 0; i < 8; ++i) a[i] = *reinterpret_cast<const Half8Unaligned*>(from + i * from_stride);
    for (int stage = 0; stage < 3; ++stage) {
        for (int i = 0; i < 4; ++i) {
            b[2 * i] = CROSSLAYER_SHUFFLE(Half8, a[i], a[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
            b[2 * i + 1] = CROSSLAYER_SHUFFLE(Half8, a[i], a[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
        }
        for (int i = 0; i < 8; ++i) a[i] = b[i];
    }
    for (int i = 0; i < 8; ++i) *reinterpret_cast<Half8Unaligned*>(to + i * to_stride) = a[i];
}

// to[j][i] = from[i][j], shape (rows, columns).
void transpose(const uint16_t* from, int64_t rows, int64_t columns, uint16_t* to) {
    for (int64_t i = 0; i < rows; i += 8)
        for (int64_t j = 0; j < columns; j += 8) {
            if (i + 8 <= rows && j + 8 <= columns) {
                transpose_8x8(from + i * columns + j, columns, to + j * rows + i, rows);
                continue;
            }
            for (int64_t k = i; k < std::min(rows, i + 8); ++k)
                for (int64_t l = j; l < std::min(columns, j + 8); ++l) to[l * rows + k] = from[k * columns + l];
        }
}

inline uint32_t bits_of(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    return bits;
}

// Halves to even; a NaN stays one.
inline uint16_t rounded_to_bfloat16(float value) {
    const uint32_t bits = bits_of(value);
    return value != value ? uint16_t(0x7fc0) : uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// Calls each(from, to) for each image: what it writes becomes pixels of 16 bits.
template <typename Each>
void as_pixels(const CrosslayerInput& in, uint16_t* pixels, const CrosslayerThreads& given, const Each& each) {
    const int64_t size = in.height * in.width, values = in.channels * size;
    parallel_for(unless_small(given, in.images * values), in.images, [&](int64_t image) {
        auto* converted = static_cast<uint16_t*>(scratch<0>(2 * values));
        each(static_cast<const float*>(in.values) + image * values, values, converted);
        transpose(converted, in.channels, size, pixels + image * values);
    });
}

}  // namespace

void codes_as_pixels(const CrosslayerInput& input, uint16_t* codes, const CrosslayerThreads& threads) {
    as_pixels(input, codes, threads, [&](const float* values, int64_t count, uint16_t* to) {
        const CrosslayerInput in = input;
        for (int64_t i = 0; i < count; ++i) to[i] = uint16_t(bits_of(clamped(values[i], in) + kRounder - kRounder) >> 16);
    });
}

void values_as_pixels(const CrosslayerInput& input, uint16_t* pixels, const CrosslayerThreads& threads) {
    as_pixels(input, pixels, threads, [](const float* values, int64_t count, uint16_t* to) {
        for (int64_t i = 0; i < count; ++i) to[i] = rounded_to_bfloat16(values[i]);
    });
}

void pixels_unless_clipped(const CrosslayerInput& input, const uint16_t* pixels, float* gradient,
                           const CrosslayerThreads& given) {
    const int64_t size = input.height * input.width, count = input.channels * size;
    parallel_for(unless_small(given, input.images * count), input.images, [&](int64_t image) {
        const CrosslayerInput in = input;
        auto* converted = static_cast<uint16_t*>(scratch<0>(2 * count));
        transpose(pixels + image * count, size, in.channels, converted);
        const float* values = static_cast<const float*>(in.values) + image * count;
        float* to = gradient + image * count;
        for (int64_t i = 0; i < count; ++i) {
            const float scaled = values[i] / in.scale;
            const uint32_t bits = scaled >= in.low && scaled <= in.high ? uint32_t(converted[i]) << 16 : 0;
            std::memcpy(to + i, &bits, 4);
        }
    });
}

void codes_as_floats(const CrosslayerInput& input, float* codes, const CrosslayerThreads& threads) {
    for_runs(input, threads, [&](int64_t begin, int64_t end) {
        const CrosslayerInput in = input;
        const auto* values = static_cast<const float*>(in.values);
        for (int64_t i = begin; i < end; ++i) codes[i] = clamped(values[i], in) + kRounder - kRounder;
    });
}

void clear_clipped(const CrosslayerInput& input, float* gradient, const CrosslayerThreads& threads) {
    for_runs(input, threads, [&](int64_t begin, int64_t end) {
        const CrosslayerInput in = input;
        const auto* values = static_cast<const float*>(in.values);
        for (int64_t i = begin; i < end; ++i) {
            const float scaled = values[i] / in.scale;
            gradient[i] = scaled >= in.low && scaled <= in.high ? gradient[i] : 0.0f;
        }
    });
}

}  // namespace CROSSLAYER_BUILD
