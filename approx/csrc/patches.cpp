// Before and after an integer matrix product: its operands as rows, and its sums as values.

#include "finish.h"
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

// Images as padded rows of pixels, each pixel its channels' factors term by term: (images, height, width, terms,
// channels).
bool pack_pixels(const CrosslayerPatches& job, int8_t* to, const CrosslayerThreads& threads) {
    const CrosslayerInput& in = job.input;
    const int64_t padded_width = in.width + 2 * in.padding_width;
    const int64_t padded_height = in.height + 2 * in.padding_height;
    const int64_t pixel = job.terms * in.channels, size = in.height * in.width;
    const bool padded = in.padding_width > 0 || in.padding_height > 0;
    int32_t not_a_number = 0;
    if (size == 1 && !padded) {  // rows already
        constexpr int64_t kRows = 64;
        parallel_for(threads, (in.images + kRows - 1) / kRows, [&](int64_t part) {
            const int64_t last = std::min(in.images, (part + 1) * kRows);
            const int64_t first = part * kRows * in.channels, count = last * in.channels - first;
            const uint8_t* codes = static_cast<const uint8_t*>(in.values) + first;
            bool seen = false;
            if (in.is_float) {
                auto* quantized = static_cast<uint8_t*>(scratch<0>(count));
                seen = code_run(in, first, count, quantized);
                codes = quantized;
            }
            if (job.terms == 1) recode(job.factors, job.factor_entries, codes, count, to + first);
            for (int64_t row = part * kRows; row < last && job.terms > 1; ++row) {
                const uint8_t* row_codes = codes + row * in.channels - first;
                for (int64_t term = 0; term < job.terms; ++term)
                    recode(job.factors + term * job.factor_entries, job.factor_entries, row_codes,
                           in.channels, to + row * pixel + term * in.channels);
            }
            if (seen) __atomic_store_n(&not_a_number, 1, __ATOMIC_RELAXED);
        });
        return not_a_number != 0;
    }
    parallel_for(threads, in.images, [&](int64_t image) {
        auto* codes = static_cast<uint8_t*>(scratch<0>(in.channels * size));
        auto* recoded = static_cast<uint8_t*>(scratch<1>(in.channels * size));
        if (code_run(in, image * in.channels * size, in.channels * size, codes))
            __atomic_store_n(&not_a_number, 1, __ATOMIC_RELAXED);
        int8_t* corner = to + image * padded_height * padded_width * pixel;
        if (padded)
            for (int64_t i = 0; i < padded_height * padded_width * job.terms; ++i)
                std::memset(corner + i * in.channels, job.factors[i % job.terms * job.factor_entries], in.channels);
        int8_t* first = corner + (in.padding_height * padded_width + in.padding_width) * pixel;
        for (int64_t term = 0; term < job.terms; ++term) {
            const int8_t* factor = job.factors + term * job.factor_entries;
            recode(factor, job.factor_entries, codes, in.channels * size, reinterpret_cast<int8_t*>(recoded));
            for (int64_t y = 0; y < in.height; ++y)
                transpose_bytes(recoded + y * in.width, size, in.channels, in.width,
                                first + y * padded_width * pixel + term * in.channels, pixel);
        }
    });
    return not_a_number != 0;
}

// The pixels under the kernel at each position, `runs` times in each row of the kernel `run` contiguous bytes.
//
// `Wide`, unless 0, is how many bytes are copied instead of a run, which is at most as long: a constant, without the cost
// of a function call. What is too much is overwritten by the next runs, so the last positions of a row take exact runs.
template <int Wide, int64_t Runs>
void lay_out_runs(const CrosslayerPatches& job, int64_t any_runs, int64_t run, const CrosslayerThreads& threads) {
    const int64_t runs = Runs > 0 ? Runs : any_runs;
    // Copies, which the stores below cannot change.
    const CrosslayerGeometry at = job.geometry;
    const int64_t pixel = job.terms * job.input.channels;
    const int64_t row_bytes = (job.input.width + 2 * job.input.padding_width) * pixel;
    const int64_t padded_height = job.input.height + 2 * job.input.padding_height;
    const int64_t step_x = at.stride_width * pixel, step_kx = at.dilation_width * pixel;
    const int64_t step_ky = at.dilation_height * row_bytes;
    const int64_t inner = at.kernel_height * runs * run;
    const int64_t exact = Wide == 0 ? at.out_width : std::min(at.out_width, (Wide + inner - 1) / inner);
    const int8_t* const packed = job.packed;
    int8_t* const patches = job.patches;
    parallel_for(threads, job.input.images * at.out_height, [=](int64_t row) {
        const int64_t image = row / at.out_height, y = row % at.out_height;
        const int8_t* from = packed + (image * padded_height + y * at.stride_height) * row_bytes;
        int8_t* to = patches + row * at.out_width * inner;
        auto position = [&](const auto& copy) {
            for (int64_t ky = 0; ky < at.kernel_height; ++ky)
                for (int64_t kx = 0; kx < runs; ++kx, to += run) copy(from + ky * step_ky + kx * step_kx, to);
            from += step_x;
        };
        for (int64_t x = exact; x < at.out_width; ++x)
            position([](const int8_t* source, int8_t* into) { std::memcpy(into, source, Wide); });
        for (int64_t x = 0; x < exact; ++x)
            position([run](const int8_t* source, int8_t* into) { std::memcpy(into, source, run); });
    });
}

template <int Wide>
void lay_out(const CrosslayerPatches& job, int64_t runs, int64_t run, const CrosslayerThreads& threads) {
    if (runs == 1)
        lay_out_runs<Wide, 1>(job, runs, run, threads);
    else
        lay_out_runs<Wide, 0>(job, runs, run, threads);
}

template <int Lanes>
void rescale_part(const CrosslayerRescale& job, int64_t output, int64_t first, int64_t count) {
    const int64_t lanes = std::min<int64_t>(Lanes, job.outputs - output);
    Finisher<Lanes> finisher(job.output, job.positions, job.outputs, output, lanes);
    const bool whole = output + Lanes <= job.columns;
    uint32_t correction[Lanes] = {};
    std::memcpy(correction, job.correction + output, lanes * 4);
    finisher.run(first, count, [&](int64_t m, uint32_t* sums) {
        const int32_t* from = job.sums + (first + m) * job.columns + output;
        if (whole)  // a constant number: the loop becomes vectors
            for (int64_t n = 0; n < Lanes; ++n) sums[n] = uint32_t(from[n]) + correction[n];
        else
            for (int64_t n = 0; n < lanes; ++n) sums[n] = uint32_t(from[n]) + correction[n];
    });
}

}  // namespace

int32_t patches(const CrosslayerPatches& job, const CrosslayerThreads& given) {
    const CrosslayerInput& in = job.input;
    const CrosslayerGeometry& at = job.geometry;
    const int64_t pixel = job.terms * in.channels;
    const int64_t inner = at.kernel_height * at.kernel_width * pixel;
    const CrosslayerThreads threads = unless_small(given, in.images * at.out_height * at.out_width * inner);
    if (job.packed == nullptr) return pack_pixels(job, job.patches, threads);
    const bool not_a_number = pack_pixels(job, job.packed, threads);
    // With undilated kernels the pixels under a kernel row are contiguous.
    const bool together = at.dilation_width == 1;
    const int64_t runs = together ? 1 : at.kernel_width;
    const int64_t run = together ? at.kernel_width * pixel : pixel;
    if (run <= 16)
        lay_out<16>(job, runs, run, threads);
    else if (run <= 32)
        lay_out<32>(job, runs, run, threads);
    else if (run <= 64)
        lay_out<64>(job, runs, run, threads);
    else
        lay_out<0>(job, runs, run, threads);
    return not_a_number;
}

void rescale(const CrosslayerRescale& job, const CrosslayerThreads& given) {
    constexpr int64_t kPart = 1024;
    const int64_t rows = job.images * job.positions;
    const CrosslayerThreads threads = unless_small(given, rows * job.outputs);
    parallel_for(threads, (rows + kPart - 1) / kPart, [&](int64_t part) {
        const int64_t first = part * kPart, count = std::min(kPart, rows - first);
        for (int64_t output = 0; output < job.outputs; output += 32) {
            const int64_t left = job.outputs - output;
            if (left <= 8)
                rescale_part<8>(job, output, first, count);
            else if (left <= 16)
                rescale_part<16>(job, output, first, count);
            else
                rescale_part<32>(job, output, first, count);
        }
    });
}

}  // namespace CROSSLAYER_BUILD
