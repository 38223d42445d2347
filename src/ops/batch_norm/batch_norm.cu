// Batch normalisation with an addition and ReLU behind it: x, residual and y [N, C, P], P = H*W;
// affine [2, C] is gamma, then beta. Per channel, over its M = N*P values:
//
//   forward    mean = sum x / M,  var = sum (x - mean)^2 / M,  inverse = 1 / sqrt(var + eps)
//              y = relu?(gamma * (x - mean) * inverse + beta + residual?)
//   backward   g = dy where y > 0, else 0 (without ReLU: g = dy),  h = (x - mean) * inverse
//              dbeta = sum g,  dgamma = sum g * h,  dresidual = g
//              dx = gamma * inverse * (g - (dbeta + h * dgamma) / M)    the batch's own statistics
//              dx = gamma * inverse * g                                 given statistics
//
// statistics [3, C] are mean, var and inverse, of the forward pass for the backward pass.
//
// The sum over a channel is made in two steps, so that there is no barrier and one order: each of
// `lanes` threads adds up every lanes-th value, then one thread adds up the lanes, in double.

#ifndef __CUDACC_RTC__ // compiled at run time, it has the text of the header before it
#include "../cuda/common.cuh"
#endif

// A thread's lane of a channel; neighbouring threads read neighbouring values.
struct Lane {
    u32 lane;
    u32 c;
    u64 values; // M

    __device__ Lane(u64 i, const Maps& maps, u32 lanes) {
        lane = i % lanes;
        c = i / lanes;
        values = (u64)maps.batch * maps.pixels;
    }

    // Where value j of the M values of the channel stands.
    __device__ u64 at(u64 j, const Maps& maps) const {
        return (j / maps.pixels * maps.channels + c) * maps.pixels + j % maps.pixels;
    }
};

// The lanes [lanes, C] of a channel, in order.
__device__ inline double total(const real* partial, u32 lanes, u32 channels, u32 c) {
    double sum = 0;
    for (u32 lane = 0; lane < lanes; lane++) {
        sum += partial[(u64)lane * channels + c];
    }
    return sum;
}

// partial [lanes, C]: sums of x. One thread a lane.
KERNEL batch_norm_sums(u64 count, Maps maps, u32 lanes, const real* x, real* partial) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    Lane own(i, maps, lanes);
    real sum = 0;
    for (u64 j = own.lane; j < own.values; j += lanes) {
        sum += x[own.at(j, maps)];
    }
    partial[(u64)own.lane * maps.channels + own.c] = sum;
}

// mean [C]. One thread a channel.
KERNEL batch_norm_mean(u64 count, Maps maps, u32 lanes, const real* partial, real* mean) {
    u64 c = thread_number();
    if (c >= count) {
        return;
    }
    double values = (double)maps.batch * maps.pixels;
    mean[c] = (real)(total(partial, lanes, maps.channels, c) / values);
}

// partial [lanes, C]: sums of (x - mean)^2. One thread a lane.
KERNEL batch_norm_squares(
    u64 count, Maps maps, u32 lanes, const real* x, const real* mean, real* partial
) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    Lane own(i, maps, lanes);
    real sum = 0;
    for (u64 j = own.lane; j < own.values; j += lanes) {
        real centred = x[own.at(j, maps)] - mean[own.c];
        sum += centred * centred;
    }
    partial[(u64)own.lane * maps.channels + own.c] = sum;
}

// statistics [3, C]. One thread a channel.
KERNEL batch_norm_statistics(
    u64 count, Maps maps, u32 lanes, double eps, const real* mean, const real* partial,
    real* statistics
) {
    u64 c = thread_number();
    if (c >= count) {
        return;
    }
    double values = (double)maps.batch * maps.pixels;
    double var = total(partial, lanes, maps.channels, c) / values;
    statistics[c] = mean[c];
    statistics[maps.channels + c] = (real)var;
    statistics[2 * maps.channels + c] = (real)(1 / sqrt(var + eps));
}

// statistics [3, C] of a given mean and variance [C]. One thread a channel.
KERNEL batch_norm_given(
    u64 count, Maps maps, double eps, const real* mean, const real* var, real* statistics
) {
    u64 c = thread_number();
    if (c >= count) {
        return;
    }
    statistics[c] = mean[c];
    statistics[maps.channels + c] = var[c];
    statistics[2 * maps.channels + c] = (real)(1 / sqrt(var[c] + eps));
}

struct After {
    u32 residual; // whether one is added
    u32 relu; // whether it follows
};

// One thread a value of y.
KERNEL batch_norm_forward(
    u64 count, Maps maps, After after, const real* x, const real* affine, const real* statistics,
    const real* residual, real* y
) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    u32 c = i / maps.pixels % maps.channels;
    real normalised = (x[i] - statistics[c]) * statistics[2 * maps.channels + c];
    real value = affine[c] * normalised + affine[maps.channels + c];
    if (after.residual) {
        value += residual[i];
    }
    y[i] = after.relu && value < 0 ? 0 : value; // NaN passes
}

// What comes through the ReLU.
__device__ inline real passed(u32 relu, real y, real dy) {
    return relu && y <= 0 ? 0 : dy;
}

// dresidual [N, C, P]. One thread a value.
KERNEL batch_norm_relu_backward(u64 count, const real* y, const real* dy, real* g) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    g[i] = passed(1, y[i], dy[i]);
}

// partial [2, lanes, C]: sums of g * h, then of g. One thread a lane.
KERNEL batch_norm_backward_sums(
    u64 count, Maps maps, u32 lanes, u32 relu, const real* x, const real* y, const real* dy,
    const real* statistics, real* partial
) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    Lane own(i, maps, lanes);
    real mean = statistics[own.c];
    real inverse = statistics[2 * maps.channels + own.c];
    real dgamma = 0;
    real dbeta = 0;
    for (u64 j = own.lane; j < own.values; j += lanes) {
        u64 at = own.at(j, maps);
        real g = passed(relu, y[at], dy[at]);
        dgamma += g * ((x[at] - mean) * inverse);
        dbeta += g;
    }
    u64 to = (u64)own.lane * maps.channels + own.c;
    partial[to] = dgamma;
    partial[(u64)lanes * maps.channels + to] = dbeta;
}

// daffine [2, C]: dgamma, then dbeta. One thread a value.
KERNEL batch_norm_affine_gradient(
    u64 count, Maps maps, u32 lanes, const real* partial, real* daffine
) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    u64 half = i / maps.channels * lanes * maps.channels;
    daffine[i] = (real)total(partial + half, lanes, maps.channels, i % maps.channels);
}

// dx [N, C, P]. One thread a value.
KERNEL batch_norm_backward(
    u64 count, Maps maps, u32 relu, u32 training, const real* x, const real* y, const real* dy,
    const real* affine, const real* statistics, const real* daffine, real* dx
) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    u32 c = i / maps.pixels % maps.channels;
    real inverse = statistics[2 * maps.channels + c];
    real through = passed(relu, y[i], dy[i]);
    if (training) {
        real h = (x[i] - statistics[c]) * inverse;
        real values = (real)((u64)maps.batch * maps.pixels);
        through -= (daffine[maps.channels + c] + h * daffine[c]) / values;
    }
    dx[i] = affine[c] * inverse * through;
}
