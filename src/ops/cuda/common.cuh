// What the kernels share.
//
// A kernel computes one value a thread and reads what it needs of its inputs: nothing is added to
// by two threads, so there are no atomics, no shared memory and no barriers, every sum is made in
// one order, and the same inputs give the same bits.
//
// Each file is compiled once a type, with REAL as float or double. Its text is plain C++ but for
// CUDA's words, so the tests compile it for a CPU too.

#ifndef CONVZOO_COMMON_CUH
#define CONVZOO_COMMON_CUH

typedef REAL real;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifndef KERNEL
#define KERNEL extern "C" __global__ void
#endif

// The number of this thread among all of the launch.
__device__ inline u64 thread_number() {
    return (u64)blockIdx.x * blockDim.x + threadIdx.x;
}

// One side of windows that slide over planes: tap t at place o is on pixel
// o * stride + t * dilation - padding.
struct Side {
    u32 size; // pixels
    u32 kernel; // taps
    u32 stride;
    u32 padding;
    u32 dilation;
    u32 places;

    // The pixel under a tap at a place; false where that is in the padding.
    __device__ bool pixel_under(u32 place, u32 tap, u32& pixel) const {
        u32 at = place * stride + tap * dilation;
        pixel = at - padding;
        return at >= padding && pixel < size;
    }

    // The place at which a tap is on a pixel; false where there is none.
    __device__ bool place_over(u32 pixel, u32 tap, u32& place) const {
        u32 at = pixel + padding;
        u32 offset = tap * dilation;
        place = (at - offset) / stride;
        return at >= offset && (at - offset) % stride == 0 && place < places;
    }
};

// Windows over planes of H x W pixels, with OH x OW places.
struct Window {
    Side y;
    Side x;

    __device__ u32 pixels() const {
        return y.size * x.size;
    }

    __device__ u32 places() const {
        return y.places * x.places;
    }
};

// Pictures [N, C, P]: N of them, of C channels of P pixels.
struct Maps {
    u32 batch;
    u32 channels;
    u32 pixels;
};

#endif
