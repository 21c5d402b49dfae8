// The native arithmetic. Compiled once for each instruction set, into a namespace of its own (CROSSLAYER_BUILD); plain
// C++ with vector extensions, no intrinsics, so that one source serves every instruction set.
//
// Row tables. out[m, n] = sum over k of table[a[m, k], w[n, k]]. For a block of k and of n the entries that the block's
// weights can meet are laid out as rows: rows[k][a][n] = table[a, w[n, k]], 16 bits each. Then one (m, k) adds one whole
// contiguous row, chosen by the activation code: no gather, no product. Table columns are stored less their smallest
// entry, which makes them unsigned; what was taken away is added once per output.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <type_traits>

#include "kernel.h"

namespace CROSSLAYER_BUILD {
namespace {

#if defined(__AVX512BW__)
constexpr int kVectorBytes = 64;
constexpr int kTogether = 1;  // positions in flight, whose independent sums hide latency ...
#define CROSSLAYER_UNROLL 16  // ... which with 32 registers unrolling does better
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
constexpr int kTogether = 2;
#define CROSSLAYER_UNROLL 4
#else
constexpr int kVectorBytes = 16;
constexpr int kTogether = 2;
#define CROSSLAYER_UNROLL 4
#endif
#define CROSSLAYER_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define CROSSLAYER_UNROLLED(count) CROSSLAYER_PRAGMA(clang loop unroll_count(count))
#define CROSSLAYER_SHUFFLE(Type, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define CROSSLAYER_UNROLLED(count) CROSSLAYER_PRAGMA(GCC unroll count)
#define CROSSLAYER_SHUFFLE(Type, a, b, ...) __builtin_shuffle(a, b, (Type{__VA_ARGS__}))
#endif

constexpr int64_t kInnerBlock = 16;  // inner indices whose rows are laid out at a time; 16 x 16 KiB stay in a 1 MiB L2
constexpr int64_t kPositionBlock = 16384;  // positions for which tables are laid out once; their accumulators are 2 MiB
constexpr int64_t kSkew = 64;  // bytes between tables, so that one code's rows do not share a cache set

template <int Bytes>
struct Vector {
    typedef uint32_t U32 __attribute__((vector_size(Bytes), may_alias));
};

// Scratch memory that a thread keeps: allocating it anew for each call would cost as much as a small layer.
template <int Slot>
void* scratch(int64_t bytes) {
    struct Buffer {
        char* data = nullptr;
        int64_t size = 0;
        ~Buffer() { ::operator delete(data, std::align_val_t(64)); }
    };
    thread_local Buffer buffer;
    if (buffer.size < bytes) {
        ::operator delete(buffer.data, std::align_val_t(64));
        buffer.data = nullptr;
        buffer.size = 0;
        buffer.data = static_cast<char*>(::operator new(bytes, std::align_val_t(64)));
        buffer.size = bytes;
    }
    return buffer.data;
}

template <typename Body>
void parallel_for(const CrosslayerThreads& threads, int64_t count, const Body& body) {
    auto range = [](int64_t begin, int64_t end, void* context) {
        for (int64_t i = begin; i < end; ++i) (*static_cast<const Body*>(context))(i);
    };
    if (threads.parallel_for == nullptr || count <= 1) {
        range(0, count, const_cast<Body*>(&body));
    } else {
        threads.parallel_for(0, count, 1, range, const_cast<Body*>(&body));
    }
}

// ---- quantisation ------------------------------------------------------------------------------------------------

// Adding 1.5 x 2^23 rounds a float of magnitude below 2^22 to an integer, halves to even, and leaves that integer in two's
// complement in the low bits.
constexpr float kRounder = 12582912.0f;

// value / scale, clamped; the code but for rounding.
inline float clamped(float value, const CrosslayerInput& in) {
    value = value / in.scale;
    value = value < in.low ? in.low : value;
    return value > in.high ? in.high : value;
}

// Operand codes of `count` values, from value number `first`. Returns whether any value was not a number.
bool code_run(const CrosslayerInput& in, int64_t first, int64_t count, uint8_t* codes) {
    if (!in.is_float) {
        std::memcpy(codes, static_cast<const uint8_t*>(in.values) + first, count);
        return false;
    }
    const float* values = static_cast<const float*>(in.values) + first;
    const CrosslayerInput local = in;  // which the stores below cannot change
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

// A short copy without the cost of a call.
inline void copy_short(const uint8_t* from, int64_t count, uint8_t* to) {
    for (; count >= 8; count -= 8, from += 8, to += 8) std::memcpy(to, from, 8);
    for (; count > 0; --count) *to++ = *from++;
}

// Bytes from one channel's plane to the next. Not a multiple of a large power of two, whose lines would share cache sets.
int64_t plane_stride(const CrosslayerInput& in) {
    const int64_t plane = (in.height + 2 * in.padding_height) * (in.width + 2 * in.padding_width);
    const int64_t lines = (plane + 63) / 64;
    return plane < 256 ? plane : (lines | 1) * 64;
}

bool is_rows(const CrosslayerInput& in) {
    return in.height * in.width == 1 && in.padding_height == 0 && in.padding_width == 0;
}

// Images as padded planes of codes.
bool pack_planes(const CrosslayerInput& in, uint8_t* packed, const CrosslayerThreads& threads) {
    const int64_t padded_width = in.width + 2 * in.padding_width;
    const int64_t padded_height = in.height + 2 * in.padding_height;
    const int64_t stride = plane_stride(in);
    const bool padded = in.padding_width > 0 || in.padding_height > 0;
    int32_t not_a_number = 0;
    parallel_for(threads, in.images, [&](int64_t image) {
        bool seen = false;
        for (int64_t channel = 0; channel < in.channels; ++channel) {
            uint8_t* plane = packed + (image * in.channels + channel) * stride;
            const int64_t first = (image * in.channels + channel) * in.height * in.width;
            if (!padded) {
                seen |= code_run(in, first, in.height * in.width, plane);
                continue;
            }
            std::memset(plane, 0, padded_height * padded_width);
            auto* codes = static_cast<uint8_t*>(scratch<0>(in.height * in.width));
            seen |= code_run(in, first, in.height * in.width, codes);
            uint8_t* to = plane + in.padding_height * padded_width + in.padding_width;
            for (int64_t y = 0; y < in.height; ++y)
                copy_short(codes + y * in.width, in.width, to + y * padded_width);
        }
        if (seen) __atomic_store_n(&not_a_number, 1, __ATOMIC_RELAXED);
    });
    return not_a_number != 0;
}

// Rows (images, channels) of 1x1 images in blocks of 16 channels, (channels / 16, images, 16): what a block of inner
// indices reads is contiguous. Blocks begin at different cache sets, because one row is written to all of them.
constexpr int64_t kRowBlock = 16;

int64_t row_block_stride(const CrosslayerInput& in) { return ((in.images * kRowBlock + 63) / 64 | 1) * 64; }

bool pack_rows(const CrosslayerInput& in, uint8_t* packed, const CrosslayerThreads& threads) {
    constexpr int64_t kRows = 64;
    const int64_t stride = row_block_stride(in);
    int32_t not_a_number = 0;
    parallel_for(threads, (in.images + kRows - 1) / kRows, [&](int64_t part) {
        bool seen = false;
        const int64_t last = std::min(in.images, (part + 1) * kRows);
        auto* row_codes = static_cast<uint8_t*>(scratch<0>(in.channels + kRowBlock));
        for (int64_t row = part * kRows; row < last; ++row) {
            const uint8_t* codes = static_cast<const uint8_t*>(in.values) + row * in.channels;
            if (in.is_float || in.channels % kRowBlock != 0) {  // a whole number of blocks is read from `codes`
                seen |= code_run(in, row * in.channels, in.channels, row_codes);
                codes = row_codes;
            }
            for (int64_t channel = 0; channel < in.channels; channel += kRowBlock)
                std::memcpy(packed + channel / kRowBlock * stride + row * kRowBlock, codes + channel, kRowBlock);
        }
        if (seen) __atomic_store_n(&not_a_number, 1, __ATOMIC_RELAXED);
    });
    return not_a_number != 0;
}

// ---- from sums to where they belong ------------------------------------------------------------------------------

typedef uint32_t Quad __attribute__((vector_size(16), may_alias));

constexpr int64_t kTile = 64;  // positions that are finished at a time

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

// Writes some outputs, `output` and the `lanes - 1` after it, at any positions.
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
            for (int64_t m = 0; m < size; ++m) {
                uint32_t* row = tile_ + m * Lanes;
                sums(start + m, row);
                if (!as_values_) continue;
                for (int n = 0; n < Lanes; ++n) {
                    const float value = float(int32_t(row[n])) * scale_[n] + bias_[n];
                    std::memcpy(row + n, &value, 4);
                }
            }
            store(first + start, size);
        }
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

// What is not a number makes everything so; sums cannot say it, so whoever wants those is told by the return value.
void fill_with_nan(const CrosslayerOutput& out, int64_t count) {
    if (out.values != nullptr) std::fill_n(out.values, count, std::numeric_limits<float>::quiet_NaN());
}

// ---- row tables --------------------------------------------------------------------------------------------------

typedef uint16_t Half8 __attribute__((vector_size(16), may_alias));
typedef uint16_t Half8Unaligned __attribute__((vector_size(16), may_alias, aligned(2)));

// rows[a][n] = columns[n][a] for a block of 8 x 8.
inline void transpose_8x8(const uint16_t* const* columns, int64_t first, uint16_t* rows, int64_t row_length) {
    Half8 a[8], b[8];
    for (int i = 0; i < 8; ++i) a[i] = *reinterpret_cast<const Half8Unaligned*>(columns[i] + first);
    for (int stage = 0; stage < 3; ++stage) {
        for (int i = 0; i < 4; ++i) {
            b[2 * i] = CROSSLAYER_SHUFFLE(Half8, a[i], a[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
            b[2 * i + 1] = CROSSLAYER_SHUFFLE(Half8, a[i], a[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
        }
        for (int i = 0; i < 8; ++i) a[i] = b[i];
    }
    for (int i = 0; i < 8; ++i) *reinterpret_cast<Half8*>(rows + (first + i) * row_length) = a[i];
}

template <int Lanes>
void lay_out_rows(const uint16_t* const* columns, int64_t entries, uint16_t* rows) {
    for (int64_t first = 0; first < entries; first += 8)
        for (int lane = 0; lane < Lanes; lane += 8) transpose_8x8(columns + lane, first, rows + lane, Lanes);
}

// Adds the rows that `inner` operands choose to the accumulators of `positions` positions.
//
// An accumulator is two vectors of 32-bit lanes: `whole`, the sum of rows read as pairs of entries (mod 2^32), and `high`,
// the sum of the pairs' upper entries. The lower entries' sum is whole - (high << 16), exact mod 2^32. `Inner` and
// `TableBytes`, unless 0, are the values of `any_inner` and `any_table_bytes` as constants, for which the loop is unrolled;
// `Contiguous` says that the inner offsets are consecutive.
template <int Lanes, int64_t Inner, int64_t TableBytes, bool Contiguous>
void add_rows(const uint8_t* codes, const int64_t* position_offset, int64_t positions, const int64_t* inner_offset,
              int64_t any_inner, const uint16_t* rows, int64_t any_table_bytes, uint32_t* accumulators, bool first) {
    constexpr int kBytes = Lanes * 2 < kVectorBytes ? Lanes * 2 : kVectorBytes;
    constexpr int kVectors = Lanes * 2 / kBytes;
    constexpr int kFlight = kVectors <= 2 ? kTogether : 1;
    using U32 = typename Vector<kBytes>::U32;
    const char* tables = reinterpret_cast<const char*>(rows);
    const int64_t table_bytes = TableBytes > 0 ? TableBytes : any_table_bytes;

    auto run = [&](auto together, int64_t begin, int64_t end) {
        constexpr int kNow = decltype(together)::value;
        for (int64_t m = begin; m < end; m += kNow) {
            U32 whole[kNow][kVectors], high[kNow][kVectors];
            const uint8_t* at[kNow];
            for (int p = 0; p < kNow; ++p) {
                at[p] = codes + position_offset[m + p];
                const U32* kept = reinterpret_cast<const U32*>(accumulators + (m + p) * Lanes);
                for (int v = 0; v < kVectors; ++v) {
                    whole[p][v] = first ? U32{} : kept[v];
                    high[p][v] = first ? U32{} : kept[kVectors + v];
                }
            }
            auto add = [&](int64_t k) {
                const int64_t offset = Contiguous ? inner_offset[0] + k : inner_offset[k];
                const char* table = tables + k * table_bytes;
                for (int p = 0; p < kNow; ++p) {
                    const U32* row = reinterpret_cast<const U32*>(table + int64_t(at[p][offset]) * (Lanes * 2));
                    for (int v = 0; v < kVectors; ++v) {
                        whole[p][v] += row[v];
                        high[p][v] += row[v] >> 16;
                    }
                }
            };
            if (Inner > 0) {
                CROSSLAYER_UNROLLED(CROSSLAYER_UNROLL)
                for (int64_t k = 0; k < Inner; ++k) add(k);
            } else {
                for (int64_t k = 0; k < any_inner; ++k) add(k);
            }
            for (int p = 0; p < kNow; ++p) {
                U32* kept = reinterpret_cast<U32*>(accumulators + (m + p) * Lanes);
                for (int v = 0; v < kVectors; ++v) {
                    kept[v] = whole[p][v];
                    kept[kVectors + v] = high[p][v];
                }
            }
        }
    };
    const int64_t even = positions - positions % kFlight;
    run(std::integral_constant<int, kFlight>{}, 0, even);
    run(std::integral_constant<int, 1>{}, even, positions);
}

// One task: some outputs of one group at a range of positions, where a position is an output pixel of some image.
struct Plan {
    const CrosslayerTableConvolution& job;
    const int64_t* inner_offset = nullptr;  // from a position's first code to that of each inner index
    int64_t image_positions = 0;      // output pixels of an image
    int64_t inner = 0;  // products per sum
    int64_t group_outputs = 0;
    int64_t group_stride = 0, image_stride = 0, row_stride = 0, column_stride = 0;  // bytes of packed codes

    // Where in the packed codes each of `count` positions begins.
    void position_offsets(int64_t group, int64_t first, int64_t count, int64_t* offsets) const {
        int64_t image = first / image_positions;
        int64_t y = first % image_positions / job.geometry.out_width;
        int64_t x = first % job.geometry.out_width;
        for (int64_t i = 0; i < count; ++i) {
            offsets[i] = group * group_stride + image * image_stride + y * row_stride + x * column_stride;
            if (++x < job.geometry.out_width) continue;
            x = 0;
            if (++y < job.geometry.out_height) continue;
            y = 0;
            ++image;
        }
    }
};

template <int Lanes>
void sum_rows(const Plan& plan, const uint8_t* weights, int64_t lanes, const int64_t* position_offset, int64_t count,
              uint32_t* accumulators) {
    const CrosslayerTableConvolution& job = plan.job;
    const int64_t entries = job.activation_entries;
    const int64_t table_bytes = entries * Lanes * 2 + kSkew;
    auto* unused = static_cast<uint16_t*>(scratch<0>(entries * 2));  // the column of lanes past the last output
    std::memset(unused, 0, entries * 2);
    auto* rows = static_cast<uint16_t*>(scratch<1>(kInnerBlock * table_bytes));
    for (int64_t k = 0; k < plan.inner; k += kInnerBlock) {
        const int64_t inner = std::min(kInnerBlock, plan.inner - k);
        for (int64_t j = 0; j < inner; ++j) {
            const uint16_t* columns[Lanes];
            for (int64_t n = 0; n < Lanes; ++n)  // lower halves of pairs are the first outputs, upper halves the last
                columns[n < Lanes / 2 ? 2 * n : 2 * n - Lanes + 1] =
                    n < lanes ? job.columns + int64_t(weights[n * plan.inner + k + j]) * entries : unused;
            lay_out_rows<Lanes>(columns, entries, rows + j * table_bytes / 2);
        }
        constexpr int64_t kBytes = 256 * Lanes * 2 + kSkew;
        const int64_t* offsets = plan.inner_offset + k;  // in rising order
        if (inner == kInnerBlock && entries == 256 && offsets[kInnerBlock - 1] == offsets[0] + kInnerBlock - 1)
            add_rows<Lanes, kInnerBlock, kBytes, true>(job.packed, position_offset, count, offsets, 0, rows, 0,
                                                       accumulators, k == 0);
        else if (inner == kInnerBlock && entries == 256)
            add_rows<Lanes, kInnerBlock, kBytes, false>(job.packed, position_offset, count, offsets, 0, rows, 0,
                                                        accumulators, k == 0);
        else
            add_rows<Lanes, 0, 0, false>(job.packed, position_offset, count, plan.inner_offset + k, inner, rows, table_bytes,
                                  accumulators, k == 0);
    }
}

template <int Lanes>
void run_task(const Plan& plan, int64_t group, int64_t first_output, int64_t begin, int64_t end) {
    const CrosslayerTableConvolution& job = plan.job;
    const int64_t lanes = std::min<int64_t>(Lanes, plan.group_outputs - first_output);
    const int64_t output = group * plan.group_outputs + first_output;
    const uint8_t* weights = job.weights + output * plan.inner;
    uint32_t least[Lanes] = {};
    for (int64_t n = 0; n < lanes; ++n)
        for (int64_t k = 0; k < plan.inner; ++k) least[n] += uint32_t(job.column_least[weights[n * plan.inner + k]]);
    const int64_t at_once = std::min(kPositionBlock, end - begin);
    auto* accumulators = static_cast<uint32_t*>(scratch<2>(at_once * Lanes * 4));
    auto* position_offset = static_cast<int64_t*>(scratch<3>(at_once * 8));
    Finisher<Lanes> finisher(job.output, plan.image_positions, job.outputs, output, lanes);
    for (int64_t first = begin; first < end; first += at_once) {
        const int64_t count = std::min(at_once, end - first);
        plan.position_offsets(group, first, count, position_offset);
        sum_rows<Lanes>(plan, weights, lanes, position_offset, count, accumulators);
        finisher.run(first, count, [&](int64_t m, uint32_t* sums) {
            const uint32_t* whole = accumulators + m * Lanes;
            const uint32_t* high = whole + Lanes / 2;
            for (int i = 0; i < Lanes / 2; ++i) {
                sums[i] = whole[i] - (high[i] << 16) + least[i];
                sums[i + Lanes / 2] = high[i] + least[i + Lanes / 2];
            }
        });
    }
}

// ---- patches -----------------------------------------------------------------------------------------------------

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

// As `recode`, with the whole table in registers. AVX-512 VBMI looks up 64 bytes in 128 entries at once; it is not part of
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

int64_t gcd(int64_t a, int64_t b) { return b == 0 ? a : gcd(b, a % b); }

CrosslayerThreads unless_small(const CrosslayerThreads& threads, int64_t work) {
    return work < 65536 ? CrosslayerThreads{nullptr, 1} : threads;  // waking threads would cost more
}

}  // namespace

int64_t packed_bytes(const CrosslayerInput& in) {
    if (is_rows(in)) return (in.channels + kRowBlock - 1) / kRowBlock * row_block_stride(in);
    return plane_stride(in) * in.channels * in.images;
}

int32_t table_convolution(const CrosslayerTableConvolution& job, const CrosslayerThreads& given) {
    const CrosslayerInput& in = job.input;
    const CrosslayerGeometry& at = job.geometry;
    const int64_t channels = in.channels / job.groups;
    Plan plan{job};
    plan.image_positions = at.out_height * at.out_width;
    plan.inner = channels * at.kernel_height * at.kernel_width;
    plan.group_outputs = job.outputs / job.groups;
    const int64_t positions = in.images * plan.image_positions;
    if (positions == 0 || job.outputs == 0) return 0;
    const CrosslayerThreads threads = unless_small(given, positions * plan.inner * plan.group_outputs);

    std::unique_ptr<int64_t[]> inner_offset(new int64_t[plan.inner]);
    plan.inner_offset = inner_offset.get();
    bool not_a_number;
    if (is_rows(in) && job.groups == 1) {
        not_a_number = pack_rows(in, job.packed, threads);
        for (int64_t k = 0; k < plan.inner; ++k)
            inner_offset[k] = k / kRowBlock * row_block_stride(in) + k % kRowBlock;
        plan.image_stride = kRowBlock;
    } else {
        not_a_number = pack_planes(in, job.packed, threads);
        const int64_t plane = plane_stride(in);
        const int64_t width = in.width + 2 * in.padding_width;
        int64_t k = 0;
        for (int64_t channel = 0; channel < channels; ++channel)
            for (int64_t y = 0; y < at.kernel_height; ++y)
                for (int64_t x = 0; x < at.kernel_width; ++x)
                    inner_offset[k++] = channel * plane + y * at.dilation_height * width + x * at.dilation_width;
        plan.group_stride = channels * plane;
        plan.image_stride = in.channels * plane;
        plan.row_stride = at.stride_height * width;
        plan.column_stride = at.stride_width;
    }
    if (not_a_number) {
        fill_with_nan(job.output, positions * job.outputs);
        return 1;
    }
    // Every thread should lay out different tables; where there are too few for all threads, positions are split too.
    const int64_t blocks = (plan.group_outputs + 31) / 32;
    const int64_t tables = job.groups * blocks;
    const int64_t parts = std::min(positions, threads.count / gcd(tables, threads.count));
    parallel_for(threads, tables * parts, [&](int64_t task) {
        const int64_t part = task % parts, block = task / parts % blocks, group = task / parts / blocks;
        const int64_t begin = positions * part / parts, end = positions * (part + 1) / parts;
        const int64_t left = plan.group_outputs - block * 32;
        if (left <= 8)
            run_task<8>(plan, group, block * 32, begin, end);
        else if (left <= 16)
            run_task<16>(plan, group, block * 32, begin, end);
        else
            run_task<32>(plan, group, block * 32, begin, end);
    });
    return 0;
}

int32_t patches(const CrosslayerPatches& job, const CrosslayerThreads& given) {
    const CrosslayerInput& in = job.input;
    const CrosslayerGeometry& at = job.geometry;
    const int64_t padded_width = in.width + 2 * in.padding_width;
    const int64_t padded_height = in.height + 2 * in.padding_height;
    const int64_t pixel = job.terms * in.channels;
    const int64_t inner = at.kernel_height * at.kernel_width * pixel;
    const CrosslayerThreads threads = unless_small(given, in.images * at.out_height * at.out_width * inner);
    if (job.packed == nullptr) return pack_pixels(job, job.patches, threads);
    const bool not_a_number = pack_pixels(job, job.packed, threads);
    // With undilated kernels the pixels under a kernel row are contiguous.
    const bool together = at.dilation_width == 1;
    const int64_t runs = together ? 1 : at.kernel_width;
    const int64_t run = together ? at.kernel_width * pixel : pixel;
    parallel_for(threads, in.images * at.out_height, [&](int64_t row) {
        const int64_t image = row / at.out_height, y = row % at.out_height;
        int8_t* to = job.patches + row * at.out_width * inner;
        for (int64_t x = 0; x < at.out_width; ++x)
            for (int64_t ky = 0; ky < at.kernel_height; ++ky)
                for (int64_t kx = 0; kx < runs; ++kx) {
                    const int64_t from_y = y * at.stride_height + ky * at.dilation_height;
                    const int64_t from_x = x * at.stride_width + kx * at.dilation_width;
                    const int64_t from = (image * padded_height + from_y) * padded_width + from_x;
                    std::memcpy(to, job.packed + from * pixel, run);
                    to += run;
                }
    });
    return not_a_number;
}

namespace {

template <int Lanes>
void rescale_part(const CrosslayerRescale& job, int64_t output, int64_t first, int64_t count) {
    const int64_t lanes = std::min<int64_t>(Lanes, job.outputs - output);
    Finisher<Lanes> finisher(job.output, job.positions, job.outputs, output, lanes);
    uint32_t correction[Lanes] = {};
    std::memcpy(correction, job.correction + output, lanes * 4);
    finisher.run(first, count, [&](int64_t m, uint32_t* sums) {
        const int32_t* from = job.sums + (first + m) * job.outputs + output;
        if (lanes == Lanes)
            for (int64_t n = 0; n < Lanes; ++n) sums[n] = uint32_t(from[n]) + correction[n];
        else
            for (int64_t n = 0; n < lanes; ++n) sums[n] = uint32_t(from[n]) + correction[n];
    });
}

}  // namespace

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

// ---- for gradients -----------------------------------------------------------------------------------------------

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
