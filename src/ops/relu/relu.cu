// ReLU, alone and behind an addition.
//
//   forward    y = x if x > 0, else 0; NaN stays NaN
//   backward   dx = dy where y > 0, else 0

#ifndef __CUDACC_RTC__ // compiled at run time, it has the text of the header before it
#include "../cuda/common.cuh"
#endif

// One thread a value.
KERNEL relu_forward(u64 count, const real* x, real* y) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    y[i] = x[i] <= 0 ? 0 : x[i];
}

// y = relu(a + b). One thread a value.
KERNEL add_relu_forward(u64 count, const real* a, const real* b, real* y) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    real sum = a[i] + b[i];
    y[i] = sum <= 0 ? 0 : sum;
}

// One thread a value; of both inputs where two were added.
KERNEL relu_backward(u64 count, const real* y, const real* dy, real* dx) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    dx[i] = y[i] <= 0 ? 0 : dy[i];
}
