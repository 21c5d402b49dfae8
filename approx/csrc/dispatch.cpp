// Chooses, once, the build of the kernels that this CPU can run, and gives it C names.

#include <cstdlib>
#include <cstring>

#include "kernel.h"

#if defined(_WIN32)
#define CROSSLAYER_EXPORT extern "C" __declspec(dllexport)
#else
#define CROSSLAYER_EXPORT extern "C" __attribute__((visibility("default")))
#endif

CROSSLAYER_DECLARE_BUILD(crosslayer_baseline)
#if defined(CROSSLAYER_X86_BUILDS)
CROSSLAYER_DECLARE_BUILD(crosslayer_x86_64_v3)
CROSSLAYER_DECLARE_BUILD(crosslayer_x86_64_v4)
CROSSLAYER_DECLARE_BUILD(crosslayer_x86_64_v4_vnni)
#endif

namespace {

struct Build {
    const char* name;
    decltype(&crosslayer_baseline::packed_bytes) packed_bytes;
    decltype(&crosslayer_baseline::table_convolution) table_convolution;
    decltype(&crosslayer_baseline::patches) patches;
    decltype(&crosslayer_baseline::byte_convolution) byte_convolution;
    decltype(&crosslayer_baseline::weight_operands) weight_operands;
    decltype(&crosslayer_baseline::rescale) rescale;
    decltype(&crosslayer_baseline::saturating_sums) saturating_sums;
    decltype(&crosslayer_baseline::codes_as_floats) codes_as_floats;
    decltype(&crosslayer_baseline::codes_as_pixels) codes_as_pixels;
    decltype(&crosslayer_baseline::values_as_pixels) values_as_pixels;
    decltype(&crosslayer_baseline::pixels_unless_clipped) pixels_unless_clipped;
    decltype(&crosslayer_baseline::clear_clipped) clear_clipped;
    decltype(&crosslayer_baseline::largest_of_four) largest_of_four;
    decltype(&crosslayer_baseline::largest_of_four_gradient) largest_of_four_gradient;
};

#define CROSSLAYER_BUILD_ENTRY(name, build)                                                                  \
    Build { name, build::packed_bytes, build::table_convolution, build::patches, build::byte_convolution,    \
            build::weight_operands, build::rescale, build::saturating_sums, build::codes_as_floats, build::codes_as_pixels,          \
            build::values_as_pixels, build::pixels_unless_clipped, build::clear_clipped,                     \
            build::largest_of_four, build::largest_of_four_gradient }

const Build kBuilds[] = {
    CROSSLAYER_BUILD_ENTRY("baseline", crosslayer_baseline),
#if defined(CROSSLAYER_X86_BUILDS)
    CROSSLAYER_BUILD_ENTRY("x86-64-v3", crosslayer_x86_64_v3),
    CROSSLAYER_BUILD_ENTRY("x86-64-v4", crosslayer_x86_64_v4),
    CROSSLAYER_BUILD_ENTRY("x86-64-v4-vnni", crosslayer_x86_64_v4_vnni),
#endif
};

bool runs_here(const Build& build) {
#if defined(CROSSLAYER_X86_BUILDS)
    __builtin_cpu_init();
    const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
                    __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt")
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 11
                    && __builtin_cpu_supports("lzcnt") && __builtin_cpu_supports("f16c") &&
                    __builtin_cpu_supports("movbe")
#endif
        ;
    if (std::strcmp(build.name, "x86-64-v3") == 0) return v3;
    const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl");
    if (std::strcmp(build.name, "x86-64-v4") == 0) return v4;
    if (std::strcmp(build.name, "x86-64-v4-vnni") == 0) return v4 && __builtin_cpu_supports("avx512vnni");
#endif
    return std::strcmp(build.name, "baseline") == 0;
}

const Build* chosen = &kBuilds[0];

}  // namespace

// Selects the named build, or the best one for this CPU if the name is null. Returns the name of the selected build, or
// null, without changing anything, if there is no such build or this CPU cannot run it.
CROSSLAYER_EXPORT const char* crosslayer_choose_build(const char* name) {
    const Build* found = nullptr;
    for (const Build& build : kBuilds)
        if (runs_here(build) && (name == nullptr || std::strcmp(name, build.name) == 0)) found = &build;
    if (found == nullptr) return nullptr;
    chosen = found;
    return chosen->name;
}

CROSSLAYER_EXPORT int64_t crosslayer_packed_bytes(const CrosslayerInput* input) { return chosen->packed_bytes(*input); }

CROSSLAYER_EXPORT int32_t crosslayer_table_convolution(const CrosslayerTableConvolution* job,
                                                       const CrosslayerThreads* threads) {
    return chosen->table_convolution(*job, *threads);
}

CROSSLAYER_EXPORT int32_t crosslayer_patches(const CrosslayerPatches* job, const CrosslayerThreads* threads) {
    return chosen->patches(*job, *threads);
}

// Returns -1 if this build has no instructions for it.
CROSSLAYER_EXPORT int32_t crosslayer_byte_convolution(const CrosslayerByteConvolution* job,
                                                      const CrosslayerThreads* threads) {
    return chosen->byte_convolution(*job, *threads);
}

// Returns the number of terms of the operands, or -1 if a code is not an integer that the operand can hold.
CROSSLAYER_EXPORT int32_t crosslayer_weight_operands(const CrosslayerWeights* job) {
    return chosen->weight_operands(*job);
}

CROSSLAYER_EXPORT void crosslayer_rescale(const CrosslayerRescale* job, const CrosslayerThreads* threads) {
    chosen->rescale(*job, *threads);
}

// Sums made one product after the other, each addition saturating.
CROSSLAYER_EXPORT void crosslayer_saturating_sums(const CrosslayerSaturatingSums* job,
                                                  const CrosslayerThreads* threads) {
    chosen->saturating_sums(*job, *threads);
}

// The codes of a float input, as floats of its shape.
CROSSLAYER_EXPORT void crosslayer_codes_as_floats(const CrosslayerInput* input, float* codes,
                                                  const CrosslayerThreads* threads) {
    chosen->codes_as_floats(*input, codes, *threads);
}

// The codes of a float input as bfloat16, which holds them exactly: (images, height, width, channels).
CROSSLAYER_EXPORT void crosslayer_codes_as_pixels(const CrosslayerInput* input, uint16_t* codes,
                                                  const CrosslayerThreads* threads) {
    chosen->codes_as_pixels(*input, codes, *threads);
}

// Its values, rounded to bfloat16, in the same layout.
CROSSLAYER_EXPORT void crosslayer_values_as_pixels(const CrosslayerInput* input, uint16_t* pixels,
                                                   const CrosslayerThreads* threads) {
    chosen->values_as_pixels(*input, pixels, *threads);
}

// From a gradient in that layout to one in that of the input, in float32, zero where quantisation clips the value.
CROSSLAYER_EXPORT void crosslayer_pixels_unless_clipped(const CrosslayerInput* input, const uint16_t* pixels,
                                                        float* gradient, const CrosslayerThreads* threads) {
    chosen->pixels_unless_clipped(*input, pixels, gradient, *threads);
}

// Sets to zero the gradient of every value of a float input that quantisation clips.
CROSSLAYER_EXPORT void crosslayer_clear_clipped(const CrosslayerInput* input, float* gradient,
                                                const CrosslayerThreads* threads) {
    chosen->clear_clipped(*input, gradient, *threads);
}

// Pools float values.
CROSSLAYER_EXPORT void crosslayer_largest_of_four(const CrosslayerPooling* job, const CrosslayerThreads* threads) {
    chosen->largest_of_four(*job, *threads);
}

// The gradient of the values: if values in a window are equal, the first in row order gets all of it.
CROSSLAYER_EXPORT void crosslayer_largest_of_four_gradient(const CrosslayerPooling* job,
                                                           const CrosslayerThreads* threads) {
    chosen->largest_of_four_gradient(*job, *threads);
}
