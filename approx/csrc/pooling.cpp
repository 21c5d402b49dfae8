// Max pooling of non-overlapping two-by-two windows, and its gradient: four windows at a time, in vectors of four values,
// which every instruction set here supports.

#include <algorithm>
#include <cstring>

#include "common.h"

namespace CROSSLAYER_BUILD {
namespace {

typedef float Values __attribute__((vector_size(16)));
typedef int32_t Mask __attribute__((vector_size(16)));

constexpr int64_t kWindows = 4;  // windows

// The left and the right values of some windows in one row.
inline void load_row(const float* row, int64_t windows, Values* left, Values* right) {
    Values first = {}, second = {};
    std::memcpy(&first, row, std::min<int64_t>(windows, 2) * 8);
    if (windows > 2) std::memcpy(&second, row + 4, (windows - 2) * 8);
    *left = CROSSLAYER_SHUFFLE(Mask, first, second, 0, 2, 4, 6);
    *right = CROSSLAYER_SHUFFLE(Mask, first, second, 1, 3, 5, 7);
}

inline void store_row(float* row, int64_t windows, Values left, Values right) {
    const Values first = CROSSLAYER_SHUFFLE(Mask, left, right, 0, 4, 1, 5);
    const Values second = CROSSLAYER_SHUFFLE(Mask, left, right, 2, 6, 3, 7);
    std::memcpy(row, &first, std::min<int64_t>(windows, 2) * 8);
    if (windows > 2) std::memcpy(row + 4, &second, (windows - 2) * 8);
}

// Whether the second of two values, in row order of the window, is strictly larger.
inline Mask beats(Values second, Values first) { return (second > first) | (second != second); }

inline Values larger(Values first, Values second) { return beats(second, first) ? second : first; }

// Calls body(map, row, column, windows) for all windows, some at a time.
template <typename Body>
void for_windows(const CrosslayerPooling& job, const CrosslayerThreads& threads, const Body& body) {
    parallel_for(unless_small(threads, job.maps * job.height * job.width), job.maps, [&](int64_t map) {
        const int64_t windows = job.width / 2;
        for (int64_t row = 0; row < job.height / 2; ++row)
            if (windows < kWindows)
                body(map, row, 0, windows);
            else  // a constant number: copies become loads and stores. The last may be among those before, once more
                for (int64_t column = 0; column < windows; column += kWindows)
                    body(map, row, std::min(column, windows - kWindows), kWindows);
    });
}

}  // namespace

void largest_of_four(const CrosslayerPooling& job, const CrosslayerThreads& threads) {
    for_windows(job, threads, [&](int64_t map, int64_t row, int64_t column, int64_t windows) {
        const float* above = job.values + (map * job.height + 2 * row) * job.width + 2 * column;
        Values a, b, c, d;
        load_row(above, windows, &a, &b);
        load_row(above + job.width, windows, &c, &d);
        const Values largest = larger(larger(a, b), larger(c, d));
        std::memcpy(job.pooled + (map * (job.height / 2) + row) * (job.width / 2) + column, &largest, windows * 4);
    });
}

void largest_of_four_gradient(const CrosslayerPooling& job, const CrosslayerThreads& threads) {
    if (job.height % 2 != 0 || job.width % 2 != 0) std::memset(job.gradient, 0, job.maps * job.height * job.width * 4);
    for_windows(job, threads, [&](int64_t map, int64_t row, int64_t column, int64_t windows) {
        const int64_t place = (map * job.height + 2 * row) * job.width + 2 * column;
        Values a, b, c, d, upstream = {};
        load_row(job.values + place, windows, &a, &b);
        load_row(job.values + place + job.width, windows, &c, &d);
        std::memcpy(&upstream, job.upstream + (map * (job.height / 2) + row) * (job.width / 2) + column, windows * 4);
        const Values zero = {};
        const Mask is_b = beats(b, a), is_d = beats(d, c), is_below = beats(is_d ? d : c, is_b ? b : a);
        const Values in_above = is_below ? zero : upstream, in_below = is_below ? upstream : zero;
        store_row(job.gradient + place, windows, is_b ? zero : in_above, is_b ? in_above : zero);
        store_row(job.gradient + place + job.width, windows, is_d ? zero : in_below, is_d ? in_below : zero);
    });
}

}  // namespace CROSSLAYER_BUILD
