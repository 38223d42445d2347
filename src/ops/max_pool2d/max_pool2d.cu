// Max pooling: x [N*C, H, W]; y and indices [N*C, OH, OW].
//
//   forward    y[p]  = max of x[i] over the pixels i under window p,  indices[p] = that i
//   backward   dx[i] = sum of dy[p] over the windows p with indices[p] = i
//
// The first of equal maxima wins, or the last NaN. In the backward pass a pixel looks up the
// windows over it, in the order of their places.

#ifndef __CUDACC_RTC__ // compiled at run time, it has the text of the header before it
#include "../cuda/common.cuh"
#endif

// One thread a value of y.
KERNEL max_pool2d_forward(u64 count, Window window, const real* x, real* y, u32* indices) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    u32 place = i % window.places();
    u32 oy = place / window.x.places;
    u32 ox = place % window.x.places;
    const real* plane = x + i / window.places() * window.pixels();
    bool found = false;
    real best = 0;
    u32 index = 0;
    for (u32 ky = 0; ky < window.y.kernel; ky++) {
        for (u32 kx = 0; kx < window.x.kernel; kx++) {
            u32 row, column;
            if (!window.y.pixel_under(oy, ky, row) || !window.x.pixel_under(ox, kx, column)) {
                continue;
            }
            u32 pixel = row * window.x.size + column;
            real value = plane[pixel];
            if (!found || value > best || value != value) {
                found = true;
                best = value;
                index = pixel;
            }
        }
    }
    y[i] = best;
    indices[i] = index;
}

// One thread a value of dx.
KERNEL max_pool2d_backward(u64 count, Window window, const u32* indices, const real* dy, real* dx) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    u32 pixel = i % window.pixels();
    u32 row = pixel / window.x.size;
    u32 column = pixel % window.x.size;
    u64 plane = i / window.pixels() * window.places();
    real sum = 0;
    for (u32 ky = window.y.kernel; ky-- > 0;) {
        u32 oy;
        if (!window.y.place_over(row, ky, oy)) {
            continue;
        }
        for (u32 kx = window.x.kernel; kx-- > 0;) {
            u32 ox;
            if (!window.x.place_over(column, kx, ox)) {
                continue;
            }
            u64 p = plane + oy * window.x.places + ox;
            if (indices[p] == pixel) {
                sum += dy[p];
            }
        }
    }
    dx[i] = sum;
}
