// From images to padded rows of pixels of operand bytes.
#pragma once

#include <algorithm>
#include <cstring>

#include "quantize.h"

namespace CROSSLAYER_BUILD {
namespace {

typedef uint8_t Byte16 __attribute__((vector_size(16), may_alias));
typedef uint8_t Byte16Unaligned __attribute__((vector_size(16), may_alias, aligned(1)));

// to[x][c] = from[c][x] for 16 channels c at 16 pixels x.
inline void transpose_16x16(const uint8_t* from, int64_t from_stride, int8_t* to, int64_t to_stride) {
    Byte16 a[16], b[16];
    for (int i = 0; i < 16; ++i) a[i] = *reinterpret_cast<const Byte16Unaligned*>(from + i * from_stride);
    for (int stage = 0; stage < 4; ++stage) {
        for (int i = 0; i < 8; ++i) {
            b[2 * i] = CROSSLAYER_SHUFFLE(Byte16, a[i], a[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            b[2 * i + 1] =
                CROSSLAYER_SHUFFLE(Byte16, a[i], a[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        }
        for (int i = 0; i < 16; ++i) a[i] = b[i];
    }
    for (int i = 0; i < 16; ++i) *reinterpret_cast<Byte16Unaligned*>(to + i * to_stride) = a[i];
}

// to[x][c] = from[c][x].
void transpose_bytes(const uint8_t* from, int64_t from_stride, int64_t channels, int64_t pixels, int8_t* to,
                     int64_t to_stride) {
    if (channels == 1 && to_stride == 1) {
        std::memcpy(to, from, pixels);
        return;
    }
    for (int64_t c = 0; c < channels; c += 16)
        for (int64_t x = 0; x < pixels; x += 16) {
            if (c + 16 <= channels && x + 16 <= pixels) {
                transpose_16x16(from + c * from_stride + x, from_stride, to + x * to_stride + c, to_stride);
                continue;
            }
            for (int64_t i = c; i < std::min(channels, c + 16); ++i)
                for (int64_t j = x; j < std::min(pixels, x + 16); ++j)
                    to[j * to_stride + i] = static_cast<int8_t>(from[i * from_stride + j]);
        }
}

#if defined(__AVX512BW__) && !defined(__clang__)
#define CROSSLAYER_BYTE_PERMUTE 1
typedef uint8_t Byte64 __attribute__((vector_size(64), may_alias));
typedef uint8_t Byte64Unaligned __attribute__((vector_size(64), may_alias, aligned(1)));

// `recode` with the whole table in registers. AVX-512 VBMI looks up 64 bytes in 128 entries at once; it is not part of
// x86-64-v4, so the CPU is asked for it.
__attribute__((target("avx512vbmi"))) int64_t recode_in_registers(const uint8_t* table, const uint8_t* codes,
                                                                   int64_t count, int8_t* to) {
    Byte64 parts[4];
    std::memcpy(parts, table, 256);
    int64_t i = 0;
    for (; i + 64 <= count; i += 64) {
        const Byte64 index = *reinterpret_cast<const Byte64Unaligned*>(codes + i);
        const Byte64 low = __builtin_shuffle(parts[0], parts[1], index);
        const Byte64 high = __builtin_shuffle(parts[2], parts[3], index);
        *reinterpret_cast<Byte64Unaligned*>(to + i) = index < 128 ? low : high;
    }
    return i;
}
#endif

// to[i] = factor[codes[i]].
void recode(const int8_t* factor, int64_t entries, const uint8_t* codes, int64_t count, int8_t* to) {
    int64_t i = 0;
#if defined(CROSSLAYER_BYTE_PERMUTE)
    static const bool permutes = __builtin_cpu_supports("avx512vbmi");
    if (permutes && count >= 64) {
        alignas(64) uint8_t table[256] = {};
        std::memcpy(table, factor, entries);
        i = recode_in_registers(table, codes, count, to);
    }
#else
    (void)entries;
#endif
    for (; i + 8 <= count; i += 8) {  // one store for eight look-ups
        int8_t eight[8];
        for (int j = 0; j < 8; ++j) eight[j] = factor[codes[i + j]];
        std::memcpy(to + i, eight, 8);
    }
    for (; i < count; ++i) to[i] = factor[codes[i]];
}

// The operand bytes of one image, as padded rows of pixels, each pixel its channels' factors term by term: (height, width,
// terms, channels). Returns whether any value was NaN.
struct Pixels {
    const CrosslayerInput& in;
    const int8_t* factors;  // (terms, factor_entries)
    int64_t terms, factor_entries;

    int64_t pixel() const { return terms * in.channels; }
    int64_t row() const { return (in.width + 2 * in.padding_width) * pixel(); }
    int64_t bytes() const { return (in.height + 2 * in.padding_height) * row(); }

    // Pixels without any margin, as the rows of a matrix are.
    bool pack_rows(int64_t first, int64_t count, int8_t* to) const {
        const auto* codes = static_cast<const uint8_t*>(in.values) + first * in.channels;
        bool not_a_number = false;
        if (in.is_float) {
            auto* quantized = static_cast<uint8_t*>(scratch<0>(count * in.channels));
            not_a_number = code_run(in, first * in.channels, count * in.channels, quantized);
            codes = quantized;
        }
        if (terms == 1) recode(factors, factor_entries, codes, count * in.channels, to);
        for (int64_t row = 0; row < count && terms > 1; ++row)
            for (int64_t term = 0; term < terms; ++term)
                recode(factors + term * factor_entries, factor_entries, codes + row * in.channels, in.channels,
                       to + row * pixel() + term * in.channels);
        return not_a_number;
    }

    bool pack_image(int64_t image, int8_t* to) const {
        const int64_t size = in.height * in.width, values = in.channels * size;
        auto* codes = static_cast<uint8_t*>(scratch<0>(values));
        auto* recoded = static_cast<uint8_t*>(scratch<1>(values));
        const bool not_a_number = code_run(in, image * values, values, codes);
        if (in.padding_width > 0 || in.padding_height > 0) fill_with_padding(to);
        int8_t* first = to + in.padding_height * row() + in.padding_width * pixel();
        for (int64_t term = 0; term < terms; ++term) {
            recode(factors + term * factor_entries, factor_entries, codes, values, reinterpret_cast<int8_t*>(recoded));
            for (int64_t y = 0; y < in.height; ++y)
                transpose_bytes(recoded + y * in.width, size, in.channels, in.width,
                                first + y * row() + term * in.channels, pixel());
        }
        return not_a_number;
    }

    // The factors of the code 0 everywhere: in one go, if they are the same of all terms, which usually is one.
    void fill_with_padding(int8_t* to) const {
        bool alike = true;
        for (int64_t term = 1; term < terms; ++term) alike &= factors[term * factor_entries] == factors[0];
        if (alike) {
            std::memset(to, factors[0], bytes());
            return;
        }
        for (int64_t i = 0; i < bytes() / in.channels; ++i)
            std::memset(to + i * in.channels, factors[i % terms * factor_entries], in.channels);
    }
};

}  // namespace
}  // namespace CROSSLAYER_BUILD
