// From real values to operand codes.
#pragma once

#include <cstring>

#include "common.h"

namespace CROSSLAYER_BUILD {
namespace {

// Adding 1.5 x 2^23 rounds a float of magnitude below 2^22 to an integer, halves to even, and leaves that integer in two's
// complement in the low bits.
constexpr float kRounder = 12582912.0f;

// value / scale, clamped: the code before rounding.
inline float clamped(float value, const CrosslayerInput& in) {
    value = value / in.scale;
    value = value < in.low ? in.low : value;
    return value > in.high ? in.high : value;
}

// Operand codes of `count` values, from value number `first`. Returns whether any value was NaN.
inline bool code_run(const CrosslayerInput& in, int64_t first, int64_t count, uint8_t* codes) {
    if (!in.is_float) {
        std::memcpy(codes, static_cast<const uint8_t*>(in.values) + first, count);
        return false;
    }
    const float* values = static_cast<const float*>(in.values) + first;
    const CrosslayerInput local = in;  // a copy that the stores below cannot change
    uint32_t not_a_number = 0;
    for (int64_t i = 0; i < count; ++i) {
        not_a_number |= values[i] != values[i];
        const float rounded = clamped(values[i], local) + kRounder;
        uint32_t bits;
        std::memcpy(&bits, &rounded, 4);
        codes[i] = static_cast<uint8_t>(bits & local.code_mask);
    }
    return not_a_number != 0;
}

}  // namespace
}  // namespace CROSSLAYER_BUILD
