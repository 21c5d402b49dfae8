// Before and after an integer matrix product: its operands as rows, and its sums as values.

#include "finish.h"
#include "pixels.h"

namespace CROSSLAYER_BUILD {
namespace {

// Images as padded rows of pixels: (images, height, width, terms, channels).
bool pack_pixels(const CrosslayerPatches& job, int8_t* to, const CrosslayerThreads& threads) {
    const CrosslayerInput& in = job.input;
    const Pixels pixels{in, job.factors, job.terms, job.factor_entries};
    int32_t not_a_number = 0;
    if (in.height * in.width == 1 && in.padding_width == 0 && in.padding_height == 0) {  // rows already
        constexpr int64_t kRows = 64;
        parallel_for(threads, (in.images + kRows - 1) / kRows, [&](int64_t part) {
            const int64_t first = part * kRows, count = std::min(kRows, in.images - first);
            if (pixels.pack_rows(first, count, to + first * pixels.pixel()))
                __atomic_store_n(&not_a_number, 1, __ATOMIC_RELAXED);
        });
        return not_a_number != 0;
    }
    parallel_for(threads, in.images, [&](int64_t image) {
        if (pixels.pack_image(image, to + image * pixels.bytes()))
            __atomic_store_n(&not_a_number, 1, __ATOMIC_RELAXED);
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
