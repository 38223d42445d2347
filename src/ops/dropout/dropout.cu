// Dropout: y = m * x with m = 0 with probability p, else scale; the same for the gradient.
//
// The mask is not stored: m[i] is a hash (splitmix64) of a seed and i, the same as on a CPU.

#ifndef __CUDACC_RTC__ // compiled at run time, it has the text of the header before it
#include "../cuda/common.cuh"
#endif

struct Mask {
    u64 seed;
    u64 threshold; // hashes below it are dropped; of 53 bits
    double scale; // 1 / (1 - p)
};

__device__ inline u64 splitmix64(u64 value) {
    u64 z = value + 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

// One thread a value.
KERNEL dropout(u64 count, Mask mask, const real* x, real* y) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    u64 hash = splitmix64(mask.seed + i) >> 11;
    y[i] = (hash < mask.threshold ? 0 : (real)mask.scale) * x[i];
}
