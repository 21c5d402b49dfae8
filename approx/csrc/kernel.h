// The C interface of the native arithmetic: plain structs and functions, loaded with ctypes.
// approx/arithmetic/abi.py mirrors every struct here field by field.
#pragma once

#include <cstdint>

extern "C" {

// Activations: (images, channels, height, width), contiguous. Padding is the code 0.
struct CrosslayerInput {
    const void* values;
    int64_t images, channels, height, width;
    int64_t padding_height, padding_width;
    int32_t is_float;    // 1: float32, quantised on the way; 0: operand codes, one unsigned byte each
    float scale;         // code = round_half_even(clamp(value / scale, low, high))
    float low, high;     // below 2^22 in magnitude
    uint32_t code_mask;  // code & code_mask is the operand code
};

// Geometry of a convolution. A matrix product is the convolution of 1x1 images by a 1x1 kernel.
struct CrosslayerGeometry {
    int64_t kernel_height, kernel_width;
    int64_t stride_height, stride_width;
    int64_t dilation_height, dilation_width;
    int64_t out_height, out_width;
};

// Integer sums, or the values they stand for: sum * scale[output] + bias[output], in float32.
struct CrosslayerOutput {
    int32_t* sums;        // (images, outputs, out_height, out_width); or null for
    float* values;        // the same shape
    const float* scale;   // (outputs,)
    const float* bias;    // (outputs,) or null
};

// Convolution with a truth table, by row tables.
struct CrosslayerTableConvolution {
    CrosslayerInput input;
    CrosslayerGeometry geometry;
    CrosslayerOutput output;
    int64_t outputs, groups;
    const uint8_t* weights;        // operand codes, (outputs, channels / groups, kernel_height, kernel_width)
    const uint16_t* columns;       // (weight codes, activation codes): table entries minus the smallest of their column
    const int32_t* column_least;   // (weight codes,): that smallest entry
    int64_t activation_entries;    // activation codes, rounded up to a multiple of 8
    uint8_t* packed;               // scratch, crosslayer_packed_bytes long
};

// The operands of every output position as rows, for an integer matrix product:
// (images * out_height * out_width, kernel_height, kernel_width, terms, channels).
struct CrosslayerPatches {
    CrosslayerInput input;
    CrosslayerGeometry geometry;
    const int8_t* factors;   // (terms, activation codes): the byte that each term multiplies for each activation code
    int64_t terms;
    int64_t factor_entries;  // activation codes
    int8_t* packed;          // scratch: images * padded height * padded width * terms * channels bytes, and 64 that are
                             // read but not used; null if 1x1 and dense
    int8_t* patches;
};

// Convolution by products of bytes, for one group; builds without the instructions for it return -1.
struct CrosslayerByteConvolution {
    CrosslayerInput input;
    CrosslayerGeometry geometry;
    CrosslayerOutput output;
    int64_t outputs;
    const uint8_t* factors;  // (terms, activation codes): the unsigned byte that each term multiplies
    int64_t terms;
    int64_t factor_entries;  // activation codes
    // Signed bytes, 64-byte aligned: (outputs / 16, kernel height, bytes under a kernel row / 4, 16, 4), both rounded up
    // with zeros; with a dilated kernel width (outputs / 16, kernel height, kernel width, bytes of a pixel / 4, 16, 4).
    const int8_t* weights;
    const int32_t* correction;  // (outputs,): added to each sum
};

// Weights as the other operand: (outputs, kernel, terms, channels), without the terms to which no weight contributes.
struct CrosslayerWeights {
    const float* codes;  // (outputs, channels, kernel), the height of the kernel times its width
    int64_t outputs, channels, kernel;
    float low, high;         // range of the operand, below 2^22 in magnitude
    uint32_t code_mask;      // code & code_mask is the operand code
    const int8_t* factors;   // (terms, weight codes): the byte of each term for each weight code
    const int32_t* shifts;   // (terms,): subtracted from activation factors to get their bytes
    int64_t terms;
    int64_t factor_entries;  // weight codes
    uint8_t* indices;        // scratch, of the size of codes
    uint8_t* used;           // (terms,): set to whether the operands contain the term
    int8_t* operands;        // with room for all terms
    int32_t* correction;     // (outputs,): what the shifts subtract from each sum
};

// The sums of a matrix product, (images * positions, columns), with a correction for each output.
struct CrosslayerRescale {
    CrosslayerOutput output;
    const int32_t* sums;
    const int32_t* correction;  // (outputs,)
    int64_t images, positions, outputs;
    int64_t columns;  // at least the outputs, which come first
};

// Sums made one product after the other, in the order of the inner index, each addition saturating.
struct CrosslayerSaturatingSums {
    const uint8_t* rows;     // activation codes, (positions, inner), in any order of the inner index
    const int64_t* order;    // (inner,): where in a row the first product's code is, and so on
    const uint8_t* weights;  // weight codes, (outputs, inner), in the order of the products
    const int32_t* columns;  // products, (weight codes, activation codes)
    const int32_t* activation_factors;  // (terms, activation codes)
    const int32_t* weight_factors;      // (terms, weight codes): products are sums over terms of factor x factor
    int64_t terms;                      // 1 or 2; 0 to take products from the columns
    int64_t positions, inner, outputs;
    int64_t activation_codes, weight_codes;
    int32_t low, high;   // the smallest and the largest sum, of at most 31 bits
    int32_t* sums;       // (positions, outputs)
    int64_t* saturated;  // (positions / 64, rounded up,): sums of these positions in which an addition saturated
};

// Max pooling of non-overlapping 2x2 windows; the last row or column of an odd number belongs to no window.
struct CrosslayerPooling {
    const float* values;  // (maps, height, width)
    int64_t maps, height, width;
    float* pooled;          // (maps, height / 2, width / 2), or null to compute the gradient:
    const float* upstream;  // gradient of the pooled values, of their shape
    float* gradient;        // gradient of the values, of their shape
};

// Runs range(begin, end, context) over [0, count) on several threads, as torch_parallel_for of libtorch does.
typedef void (*CrosslayerRange)(int64_t begin, int64_t end, void* context);
typedef int32_t (*CrosslayerParallelFor)(int64_t begin, int64_t end, int64_t grain, CrosslayerRange range, void* context);

// Threads to use; `parallel_for` null means one.
struct CrosslayerThreads {
    CrosslayerParallelFor parallel_for;
    int64_t count;
};
}

// Every build of the kernels defines these in a namespace of its own; dispatch.cpp chooses one. Each returns 1 if a value
// of a float input is NaN, else 0.
#define CROSSLAYER_DECLARE_BUILD(build)                                                         \
    namespace build {                                                                           \
    int64_t packed_bytes(const CrosslayerInput&);                                               \
    int32_t table_convolution(const CrosslayerTableConvolution&, const CrosslayerThreads&);     \
    int32_t patches(const CrosslayerPatches&, const CrosslayerThreads&);                        \
    int32_t byte_convolution(const CrosslayerByteConvolution&, const CrosslayerThreads&);       \
    int32_t weight_operands(const CrosslayerWeights&);                                          \
    void rescale(const CrosslayerRescale&, const CrosslayerThreads&);                           \
    void saturating_sums(const CrosslayerSaturatingSums&, const CrosslayerThreads&);            \
    void codes_as_floats(const CrosslayerInput&, float* codes, const CrosslayerThreads&);       \
    void codes_as_pixels(const CrosslayerInput&, uint16_t* codes, const CrosslayerThreads&);    \
    void values_as_pixels(const CrosslayerInput&, uint16_t* pixels, const CrosslayerThreads&);  \
    void pixels_unless_clipped(const CrosslayerInput&, const uint16_t* pixels, float* gradient, \
                               const CrosslayerThreads&);                                       \
    void clear_clipped(const CrosslayerInput&, float* gradient, const CrosslayerThreads&);      \
    void largest_of_four(const CrosslayerPooling&, const CrosslayerThreads&);                   \
    void largest_of_four_gradient(const CrosslayerPooling&, const CrosslayerThreads&);          \
    }
