// How emulators of approximate multipliers usually work, for comparison: one look-up in the whole table for every
// product, on every thread. The inner loop is over outputs, so that compilers turn it into gather instructions.
#include <algorithm>
#include <cstdint>
#include <thread>
#include <vector>

extern "C" void gather_matmul(const uint8_t* activations, const uint8_t* weights, const int32_t* lut, int32_t* out,
                              int64_t rows, int64_t inner, int64_t outputs, int64_t threads) {
    auto part = [&](int64_t begin, int64_t end) {
        std::vector<int32_t> sums(outputs);
        for (int64_t m = begin; m < end; ++m) {
            std::fill(sums.begin(), sums.end(), 0);
            for (int64_t k = 0; k < inner; ++k) {
                const int32_t* row = lut + activations[m * inner + k] * 256;
                const uint8_t* column = weights + k * outputs;
                for (int64_t n = 0; n < outputs; ++n) sums[n] += row[column[n]];
            }
            std::copy(sums.begin(), sums.end(), out + m * outputs);
        }
    };
    std::vector<std::thread> running;
    for (int64_t t = 1; t < threads; ++t) running.emplace_back(part, rows * t / threads, rows * (t + 1) / threads);
    part(0, rows / threads);
    for (auto& thread : running) thread.join();
}
