// Row tables. out[m, n] = sum over k of table[a[m, k], w[n, k]]. For a block of k and of n the entries that the block's
// weights can meet are laid out as rows: rows[k][a][n] = table[a, w[n, k]], 16 bits each. Then one (m, k) adds one whole
// contiguous row, chosen by the activation code: no gather, no product. Table columns are stored minus their smallest
// entry, which makes them unsigned; the smallest entries are added once per output.

#include <memory>
#include <type_traits>

#include "finish.h"
#include "quantize.h"

namespace CROSSLAYER_BUILD {
namespace {

constexpr int64_t kInnerBlock = 16;  // inner indices whose rows are laid out together; 16 x 16 KiB stay in a 1 MiB L2
constexpr int64_t kPositionBlock = 16384;  // positions for which tables are laid out once; their accumulators are 2 MiB
constexpr int64_t kSkew = 64;  // bytes between tables, so that one code's rows do not share a cache set

// ---- packing -----------------------------------------------------------------------------------------------------

// A short copy without the cost of a function call.
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

// ---- rows --------------------------------------------------------------------------------------------------------

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
        const int64_t* offsets = plan.inner_offset + k;  // ascending
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

int64_t gcd(int64_t a, int64_t b) { return b == 0 ? a : gcd(b, a % b); }

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
    // Every thread should lay out different tables; if there are fewer tables than threads, positions are split too.
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

}  // namespace CROSSLAYER_BUILD
