// Convolution as products of matrices: x [N, C, H, W], y [N, O, P] with P = OH*OW. Of n pictures
// from number `first` on, with col = im2col(x) of shape [C*KH*KW, n*P], and, group by group:
//
//   forward    y  = w * col + b          (O/G, C/G*K) * (C/G*K, n*P)
//   backward   dw = dy * col^T           (O/G, n*P) * (n*P, C/G*K)
//              dx = col2im(w^T * dy)     (C/G*K, O/G) * (O/G, n*P)
//              db = sum of dy
//
// The products are cuBLAS's. Here is what stands around them: im2col and its adjoint, and the moves
// between pictures [N, O, P] and the columns [O, n*P] that make one product of many pictures.

#ifndef __CUDACC_RTC__ // compiled at run time, it has the text of the header before it
#include "../cuda/common.cuh"
#endif

// Which pictures: `pictures` of them from number `first` on, of C channels.
struct Part {
    u32 first;
    u32 pictures;
    u32 channels;
};

// col [C*KH*KW, n*P]. One thread a value.
KERNEL im2col(u64 count, Window window, Part part, const real* x, real* col) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    u64 columns = (u64)part.pictures * window.places();
    u64 column = i % columns;
    u32 row = i / columns;
    u32 place = column % window.places();
    u64 picture = part.first + column / window.places();
    u32 kx = row % window.x.kernel;
    u32 ky = row / window.x.kernel % window.y.kernel;
    u32 c = row / (window.x.kernel * window.y.kernel);
    u32 py, px;
    bool inside = window.y.pixel_under(place / window.x.places, ky, py)
        && window.x.pixel_under(place % window.x.places, kx, px);
    u64 plane = (picture * part.channels + c) * window.pixels();
    col[i] = inside ? x[plane + py * window.x.size + px] : 0;
}

// The n pictures' part of dx [N, C, H, W]. One thread a value: it adds up the columns' values that
// im2col has copied its pixel to, tap after tap.
KERNEL col2im(u64 count, Window window, Part part, const real* dcol, real* dx) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    u32 pixel = i % window.pixels();
    u32 py = pixel / window.x.size;
    u32 px = pixel % window.x.size;
    u32 c = i / window.pixels() % part.channels;
    u64 picture = i / window.pixels() / part.channels;
    u64 columns = (u64)part.pictures * window.places();
    const real* own = dcol + picture * window.places();
    real sum = 0;
    for (u32 ky = 0; ky < window.y.kernel; ky++) {
        u32 oy;
        if (!window.y.place_over(py, ky, oy)) {
            continue;
        }
        for (u32 kx = 0; kx < window.x.kernel; kx++) {
            u32 ox;
            if (window.x.place_over(px, kx, ox)) {
                u64 row = ((u64)c * window.y.kernel + ky) * window.x.kernel + kx;
                sum += own[row * columns + oy * window.x.places + ox];
            }
        }
    }
    dx[(u64)part.first * part.channels * window.pixels() + i] = sum;
}

// From columns [O, n*P] to the n pictures' part of y [N, O, P], plus b [O] where there is one. One
// thread a value.
KERNEL columns_to_pictures(
    u64 count, Part part, u32 places, u32 bias, const real* columns, const real* b, real* y
) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    u32 place = i % places;
    u32 o = i / places % part.channels;
    u64 picture = i / places / part.channels;
    real value = columns[((u64)o * part.pictures + picture) * places + place];
    y[(u64)part.first * part.channels * places + i] = bias ? value + b[o] : value;
}

// From the n pictures' part of dy [N, O, P] to columns [O, n*P]. One thread a value.
KERNEL pictures_to_columns(u64 count, Part part, u32 places, const real* dy, real* columns) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    u32 place = i % places;
    u64 picture = i / places % part.pictures;
    u64 o = i / places / part.pictures;
    u64 from = (part.first + picture) * part.channels + o;
    columns[i] = dy[from * places + place];
}

// partial [lanes, O]: each lane adds up every lanes-th of a channel's N*P values. One thread a lane.
KERNEL bias_sums(u64 count, Maps maps, u32 lanes, const real* dy, real* partial) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    u64 o = i / lanes;
    u32 lane = i % lanes;
    u64 values = (u64)maps.batch * maps.pixels;
    real sum = 0;
    for (u64 j = lane; j < values; j += lanes) {
        sum += dy[(j / maps.pixels * maps.channels + o) * maps.pixels + j % maps.pixels];
    }
    partial[lane * maps.channels + o] = sum;
}

// db [O]: the lanes in order, in double. One thread a value.
KERNEL bias_gradient(u64 count, u32 lanes, const real* partial, real* db) {
    u64 o = thread_number();
    if (o >= count) {
        return;
    }
    double sum = 0;
    for (u32 lane = 0; lane < lanes; lane++) {
        sum += partial[lane * count + o];
    }
    db[o] = (real)sum;
}

// to += from: the parts of dw one after the other. One thread a value.
KERNEL add_to(u64 count, const real* from, real* to) {
    u64 i = thread_number();
    if (i >= count) {
        return;
    }
    to[i] += from[i];
}
