// Adaptive average pooling: x [N*C, H, W], y [N*C, OH, OW].
//
// Along a side, output o is the mean of the pixels from floor(o * in / out) up to, but not
// including, ceil((o + 1) * in / out). Pixel i is seen by the outputs of the same formula with in
// and out exchanged: o sees i where (o + 1) * in / out > i and o * in / out < i + 1.
//
//   forward    y[p]  = sum of x[i] over the pixels i in window p, / |window p|
//   backward   dx[i] = sum of dy[p] / |window p| over the windows p with i in them

#ifndef __CUDACC_RTC__ // compiled at run time, it has the text of the header before it
#include "../cuda/common.cuh"
#endif

// Height and width of the input's planes, and of the output's.
struct Sizes {
    u32 height, width;
    u32 rows, columns;
};

__device__ inline u32 first_of(u32 i, u32 to, u32 from) {
    return (u64)i * from / to;
}

// One past the last.
__device__ inline u32 end_of(u32 i, u32 to, u32 from) {
    return ((u64)(i + 1) * from + to - 1) / to;
}

// One thread a value of y.
KERNEL adaptive_avg_pool2d_forward(u64 count, Sizes sizes, const real* x, real* y) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    u32 oy = i / sizes.columns % sizes.rows;
    u32 ox = i % sizes.columns;
    const real* plane = x + i / ((u64)sizes.rows * sizes.columns) * sizes.height * sizes.width;
    u32 top = first_of(oy, sizes.rows, sizes.height), bottom = end_of(oy, sizes.rows, sizes.height);
    u32 left = first_of(ox, sizes.columns, sizes.width);
    u32 right = end_of(ox, sizes.columns, sizes.width);
    real sum = 0;
    for (u32 row = top; row < bottom; row++) {
        for (u32 column = left; column < right; column++) {
            sum += plane[row * sizes.width + column];
        }
    }
    y[i] = sum / (real)((u64)(bottom - top) * (right - left));
}

// One thread a value of dx.
KERNEL adaptive_avg_pool2d_backward(u64 count, Sizes sizes, const real* dy, real* dx) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    u32 row = i / sizes.width % sizes.height;
    u32 column = i % sizes.width;
    const real* plane = dy + i / ((u64)sizes.height * sizes.width) * sizes.rows * sizes.columns;
    u32 top = first_of(row, sizes.height, sizes.rows), bottom = end_of(row, sizes.height, sizes.rows);
    u32 left = first_of(column, sizes.width, sizes.columns);
    u32 right = end_of(column, sizes.width, sizes.columns);
    real sum = 0;
    for (u32 oy = top; oy < bottom; oy++) {
        u32 high = end_of(oy, sizes.rows, sizes.height) - first_of(oy, sizes.rows, sizes.height);
        for (u32 ox = left; ox < right; ox++) {
            u32 wide = end_of(ox, sizes.columns, sizes.width)
                - first_of(ox, sizes.columns, sizes.width);
            sum += plane[oy * sizes.columns + ox] / (real)((u64)high * wide);
        }
    }
    dx[i] = sum;
}
