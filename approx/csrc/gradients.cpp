// Quantisation as gradients need it.

#include <algorithm>

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

}  // namespace

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
