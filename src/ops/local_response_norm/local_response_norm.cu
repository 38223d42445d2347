// Local response normalisation: x, s and y [N, C, P], with P = H*W.
//
//   forward    s[c]  = k + factor * sum of x[j]^2 over the channels j in window(c)
//              y[c]  = x[c] * s[c]^-beta
//   backward   dx[c] = dy[c] * s[c]^-beta
//                      - 2 * factor * beta * x[c] * sum of dy[j] * x[j] * s[j]^(-beta-1)
//                        over the channels j with c in window(j)
//
// where factor = alpha / size, and window(c) goes from c - before to c + after.

#ifndef __CUDACC_RTC__ // compiled at run time, it has the text of the header before it
#include "../cuda/common.cuh"
#endif

struct Response {
    u32 before;
    u32 after;
    double factor;
    double beta;
    double k;
};

// From c - before up to, but not including, c + after + 1, cut off at the ends.
struct Channels {
    u32 first;
    u32 end;

    __device__ Channels(u32 c, u32 before, u32 after, u32 channels) {
        first = c > before ? c - before : 0;
        end = after < channels - c ? c + after + 1 : channels;
    }
};

// s of channel c, from channel 0 of its pixel.
__device__ inline real scale_of(const real* pixel, u32 c, const Maps& maps, const Response& how) {
    Channels window(c, how.before, how.after, maps.channels);
    real sum = 0;
    for (u32 j = window.first; j < window.end; j++) {
        real x = pixel[(u64)j * maps.pixels];
        sum += x * x;
    }
    return (real)how.k + (real)how.factor * sum;
}

// Where channel 0 of the pixel of value i is, and which channel i is of.
__device__ inline u64 pixel_of(u64 i, const Maps& maps, u32& c) {
    c = i / maps.pixels % maps.channels;
    return i - (u64)c * maps.pixels;
}

// One thread a value of y.
KERNEL local_response_norm_forward(u64 count, Maps maps, Response how, const real* x, real* y) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    u32 c;
    u64 pixel = pixel_of(i, maps, c);
    y[i] = x[i] / pow(scale_of(x + pixel, c, maps, how), (real)how.beta);
}

// One thread a value of s.
KERNEL local_response_norm_scales(u64 count, Maps maps, Response how, const real* x, real* s) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    u32 c;
    u64 pixel = pixel_of(i, maps, c);
    s[i] = scale_of(x + pixel, c, maps, how);
}

// One thread a value of dx.
KERNEL local_response_norm_backward(
    u64 count, Maps maps, Response how, const real* x, const real* s, const real* dy, real* dx
) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    u32 c;
    u64 pixel = pixel_of(i, maps, c);
    Channels window(c, how.after, how.before, maps.channels); // the other way round
    real sum = 0;
    for (u32 j = window.first; j < window.end; j++) {
        u64 at = pixel + (u64)j * maps.pixels;
        sum += dy[at] * x[at] / pow(s[at], (real)(how.beta + 1));
    }
    real factor = (real)(2 * how.factor * how.beta);
    dx[i] = dy[i] / pow(s[i], (real)how.beta) - factor * x[i] * sum;
}
