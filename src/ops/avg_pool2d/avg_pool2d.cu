// Average pooling: x [N*C, H, W], y [N*C, OH, OW].
//
//   forward    y[p]  = sum of x[i] over the pixels i under window p, / divisor[p]
//   backward   dx[i] = sum of dy[p] / divisor[p] over the windows p on pixel i

#ifndef __CUDACC_RTC__ // compiled at run time, it has the text of the header before it
#include "../cuda/common.cuh"
#endif

// What the divisor counts: padding or not; or, where it is not 0, a number to use instead.
struct Divisor {
    u32 count_include_pad;
    u32 instead;
};

// This side's factor of the divisor. A window never counts what it covers beyond the padding.
__device__ inline u32 covered(const Side& side, u32 place, u32 count_include_pad) {
    u32 start = place * side.stride; // in the padded input
    u32 end = start + side.kernel;
    u32 first = count_include_pad ? 0 : side.padding;
    u32 last = side.size + side.padding + (count_include_pad ? side.padding : 0);
    return (end < last ? end : last) - (start > first ? start : first);
}

__device__ inline real divisor_at(const Window& window, const Divisor& divisor, u32 oy, u32 ox) {
    if (divisor.instead != 0) {
        return (real)divisor.instead;
    }
    u32 pad = divisor.count_include_pad;
    return (real)((u64)covered(window.y, oy, pad) * covered(window.x, ox, pad));
}

// One thread a value of y.
KERNEL avg_pool2d_forward(u64 count, Window window, Divisor divisor, const real* x, real* y) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    u32 place = i % window.places();
    u32 oy = place / window.x.places;
    u32 ox = place % window.x.places;
    const real* plane = x + i / window.places() * window.pixels();
    real sum = 0;
    for (u32 ky = 0; ky < window.y.kernel; ky++) {
        for (u32 kx = 0; kx < window.x.kernel; kx++) {
            u32 row, column;
            if (window.y.pixel_under(oy, ky, row) && window.x.pixel_under(ox, kx, column)) {
                sum += plane[row * window.x.size + column];
            }
        }
    }
    y[i] = sum / divisor_at(window, divisor, oy, ox);
}

// One thread a value of dx.
KERNEL avg_pool2d_backward(u64 count, Window window, Divisor divisor, const real* dy, real* dx) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    u32 pixel = i % window.pixels();
    u32 row = pixel / window.x.size;
    u32 column = pixel % window.x.size;
    const real* plane = dy + i / window.pixels() * window.places();
    real sum = 0;
    for (u32 ky = 0; ky < window.y.kernel; ky++) {
        u32 oy;
        if (!window.y.place_over(row, ky, oy)) {
            continue;
        }
        for (u32 kx = 0; kx < window.x.kernel; kx++) {
            u32 ox;
            if (window.x.place_over(column, kx, ox)) {
                sum += plane[oy * window.x.places + ox] / divisor_at(window, divisor, oy, ox);
            }
        }
    }
    dx[i] = sum;
}
