// Convolution by products of bytes, fused: an image is quantised, laid out as pixels, multiplied and rescaled while it is in
// the cache, and no patches are laid out. Needs AVX512-VNNI, whose instruction multiplies four pairs of an unsigned and a
// signed byte for each of 16 outputs; builds without it say that they cannot.

#include "finish.h"
#include "pixels.h"

#if defined(__AVX512VNNI__)
#include <immintrin.h>
#endif

namespace CROSSLAYER_BUILD {

#if defined(__AVX512VNNI__)
namespace {

constexpr int kOutputs = 16;  // 32-bit lanes of a vector
constexpr int kFlight = 8;    // positions in flight, whose independent sums hide latency

// Sums of `Positions` positions that are `step` bytes apart, for `Blocks` x 16 outputs: what lies at each of `runs` offsets
// from a position, `quads` times four bytes, times weights in this order. They begin at `correction`.
template <int Positions, int Blocks>
inline void add_products(const uint8_t* first, int64_t step, const int64_t* offsets, int64_t runs, int64_t quads,
                         const int8_t* weights, int64_t block_bytes, const uint32_t* correction, uint32_t* to) {
    __m512i sums[Positions][Blocks];
    for (int p = 0; p < Positions; ++p)
        for (int b = 0; b < Blocks; ++b) sums[p][b] = _mm512_loadu_si512(correction + b * kOutputs);
    for (int64_t run = 0; run < runs; ++run) {
        const uint8_t* at = first + offsets[run];
        for (int64_t quad = 0; quad < quads; ++quad, at += 4, weights += 64) {
            __m512i factors[Blocks];
            for (int b = 0; b < Blocks; ++b) factors[b] = _mm512_load_si512(weights + b * block_bytes);
            for (int p = 0; p < Positions; ++p) {
                int32_t bytes;
                std::memcpy(&bytes, at + p * step, 4);
                const __m512i same = _mm512_set1_epi32(bytes);
                for (int b = 0; b < Blocks; ++b) sums[p][b] = _mm512_dpbusd_epi32(sums[p][b], same, factors[b]);
            }
        }
    }
    for (int p = 0; p < Positions; ++p)
        for (int b = 0; b < Blocks; ++b) _mm512_storeu_si512(to + (p * Blocks + b) * kOutputs, sums[p][b]);
}

struct Products {
    const CrosslayerByteConvolution& job;
    const int64_t* offsets;  // of the runs
    int64_t runs, quads;     // runs of a position, and groups of four bytes in each

    int64_t block_bytes() const { return runs * quads * 64; }

    // Some outputs: what their sums begin at, and where they go.
    template <int Blocks>
    struct Part {
        Part(const CrosslayerByteConvolution& job, int64_t output, int64_t positions)
            : finisher(job.output, positions, job.outputs, output,
                       std::min<int64_t>(Blocks * kOutputs, job.outputs - output)) {
            std::memcpy(correction, job.correction + output,
                        std::min<int64_t>(Blocks * kOutputs, job.outputs - output) * 4);
        }
        Finisher<Blocks * kOutputs> finisher;
        uint32_t correction[Blocks * kOutputs] = {};
    };

    // Sums of `count` positions in a row, `step` bytes apart.
    template <int Blocks>
    void row(const uint8_t* at, int64_t step, int64_t count, int64_t output, Part<Blocks>& part, uint32_t* to) const {
        constexpr int kLanes = Blocks * kOutputs;
        const int8_t* weights = job.weights + output / kOutputs * block_bytes();
        auto add = [&](auto positions, int64_t m) {
            add_products<decltype(positions)::value, Blocks>(at + m * step, step, offsets, runs, quads, weights, block_bytes(),
                                                             part.correction, to + m * kLanes);
        };
        int64_t m = 0;
        for (; m + kFlight <= count; m += kFlight) add(std::integral_constant<int, kFlight>{}, m);
        if (m + 4 <= count) {
            add(std::integral_constant<int, 4>{}, m);
            m += 4;
        }
        for (; m < count; ++m) add(std::integral_constant<int, 1>{}, m);
    }

    // All positions of one image, for Blocks x 16 outputs from `output` on.
    template <int Blocks>
    void image(const uint8_t* pixels, int64_t row_bytes, int64_t pixel, int64_t image, int64_t output) const {
        constexpr int kLanes = Blocks * kOutputs;
        const CrosslayerGeometry at = job.geometry;
        const int64_t positions = at.out_height * at.out_width, step = at.stride_width * pixel;
        Part<Blocks> part(job, output, positions);
        for (int64_t start = 0; start < positions; start += kTile) {
            const int64_t size = std::min(kTile, positions - start);
            for (int64_t done = 0; done < size;) {
                const int64_t y = (start + done) / at.out_width, x = (start + done) % at.out_width;
                const int64_t count = std::min(size - done, at.out_width - x);
                row<Blocks>(pixels + y * at.stride_height * row_bytes + x * step, step, count, output, part,
                            part.finisher.tile() + done * kLanes);
                done += count;
            }
            part.finisher.finish(image * positions + start, size);
        }
    }

    // Rows of a matrix, which are contiguous.
    template <int Blocks>
    void rows(const uint8_t* bytes, int64_t row_bytes, int64_t first, int64_t count, int64_t output) const {
        Part<Blocks> part(job, output, 1);
        row<Blocks>(bytes, row_bytes, count, output, part, part.finisher.tile());
        part.finisher.finish(first, count);
    }

    // Calls each(blocks, output) with one or two blocks of 16 outputs until all outputs had their turn.
    template <typename Each>
    void outputs(const Each& each) const {
        for (int64_t output = 0; output < job.outputs; output += 2 * kOutputs) {
            if (job.outputs - output > kOutputs)
                each(std::integral_constant<int, 2>{}, output);
            else
                each(std::integral_constant<int, 1>{}, output);
        }
    }
};

}  // namespace

int32_t byte_convolution(const CrosslayerByteConvolution& job, const CrosslayerThreads& given) {
    const CrosslayerInput& in = job.input;
    const CrosslayerGeometry& at = job.geometry;
    const Pixels pixels{in, reinterpret_cast<const int8_t*>(job.factors), job.terms, job.factor_entries};
    const int64_t pixel = pixels.pixel();
    // With undilated kernels the pixels under a kernel row are contiguous.
    const bool together = at.dilation_width == 1;
    const int64_t across = together ? 1 : at.kernel_width;
    const int64_t run = together ? at.kernel_width * pixel : pixel;
    auto* offsets = static_cast<int64_t*>(scratch<4>(at.kernel_height * across * 8));
    for (int64_t ky = 0; ky < at.kernel_height; ++ky)
        for (int64_t kx = 0; kx < across; ++kx)
            offsets[ky * across + kx] = ky * at.dilation_height * pixels.row() + kx * at.dilation_width * pixel;
    const Products products{job, offsets, at.kernel_height * across, (run + 3) / 4};
    const int64_t work = in.images * at.out_height * at.out_width * at.kernel_height * at.kernel_width * pixel;
    const CrosslayerThreads threads = unless_small(given, work);
    int32_t not_a_number = 0;
    if (in.height * in.width == 1 && in.padding_width == 0 && in.padding_height == 0) {
        parallel_for(threads, (in.images + kTile - 1) / kTile, [&](int64_t part) {
            const int64_t first = part * kTile, count = std::min(kTile, in.images - first);
            auto* bytes = static_cast<int8_t*>(scratch<2>(count * pixel + 64));
            if (pixels.pack_rows(first, count, bytes)) __atomic_store_n(&not_a_number, 1, __ATOMIC_RELAXED);
            products.outputs([&](auto blocks, int64_t output) {
                products.template rows<decltype(blocks)::value>(reinterpret_cast<uint8_t*>(bytes), pixel, first, count,
                                                                output);
            });
        });
    } else {
        parallel_for(threads, in.images, [&](int64_t image) {
            auto* bytes = static_cast<int8_t*>(scratch<2>(pixels.bytes() + 64));
            if (pixels.pack_image(image, bytes)) __atomic_store_n(&not_a_number, 1, __ATOMIC_RELAXED);
            products.outputs([&](auto blocks, int64_t output) {
                products.template image<decltype(blocks)::value>(reinterpret_cast<uint8_t*>(bytes), pixels.row(), pixel,
                                                                 image, output);
            });
        });
    }
    if (not_a_number != 0) fill_with_nan(job.output, in.images * job.outputs * at.out_height * at.out_width);
    return not_a_number;
}

#else

int32_t byte_convolution(const CrosslayerByteConvolution&, const CrosslayerThreads&) { return -1; }

#endif

}  // namespace CROSSLAYER_BUILD
