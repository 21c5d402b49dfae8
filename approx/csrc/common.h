// Shared by the kernels: vectors, scratch memory, threads. Like every source here it is compiled once for each instruction
// set, each time into its own namespace (CROSSLAYER_BUILD); plain C++ with vector extensions, no intrinsics.
#pragma once

#include <cstdint>
#include <new>

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

template <int Bytes>
struct Vector {
    typedef uint32_t U32 __attribute__((vector_size(Bytes), may_alias));
};

// Scratch memory that a thread keeps: allocating it in each call would cost as much as a small layer.
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

inline CrosslayerThreads unless_small(const CrosslayerThreads& threads, int64_t work) {
    return work < 65536 ? CrosslayerThreads{nullptr, 1} : threads;  // waking threads would cost more
}

}  // namespace
}  // namespace CROSSLAYER_BUILD
