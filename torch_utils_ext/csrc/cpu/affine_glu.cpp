// Scale, shift, noise and gated linear unit: forward, and all gradients in one pass. See ../abi.h.

#include <math.h>

#include "../abi.h"
#include "launch.h"
#include "strips.h"

namespace tux {

// exp by 2^n times a polynomial on [-ln2/2, ln2/2], within two units in the last place.
TUX_INLINE vec<float> exponential(vec<float> x) {
    x = x > 88 ? splat<float>(88) : x;
    x = x < -87 ? splat<float>(-87) : x;
    const float magic = 0x1.8p23f;
    vec<float> n = x * 1.44269504f + magic;
    keep(n);                                        // must not be simplified, because the addition rounds
    n = n - magic;
    vec<float> r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    vec<float> p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    mask<float> power = (__builtin_convertvector(n, mask<float>) + 127) << 23;
    return p * (vec<float>)power;
}

TUX_INLINE vec<double> exponential(vec<double> x) {
    for (int i = 0; i < lanes<double>::count; i++) x[i] = exp(x[i]);
    return x;
}

template <class A> TUX_INLINE vec<A> sigmoid(vec<A> x) { return A(1) / (A(1) + exponential(-x)); }

//---------------------------------------------------------------------------

template <class T> struct affine {
    typedef arithmetic_t<T> A;
    const A *scale, *shift, *noise;
    bool noise_per_sample;

    struct channel { vec<A> scale, shift; };
    TUX_INLINE channel at(int64_t c) const { return {splat<A>(scale ? scale[c] : A(1)), splat<A>(shift ? shift[c] : A(0))}; }
    TUX_INLINE const A* noise_of(int64_t n, int64_t HW) const { return noise ? noise + (noise_per_sample ? n * HW : 0) : nullptr; }
};

template <class T>
int glu_forward(const T* x, affine<T> a, T* y, int64_t N, int64_t C, int64_t HW) {
    typedef arithmetic_t<T> A;
    typedef vec<A> V;
    return parallel_planes(N * C, 4 * HW, [&](int64_t begin, int64_t end) {
        choose(a.noise, [&](auto noisy) { choose(streams(y, N * C * HW, HW), [&](auto streamed) {
            int64_t n = begin / C, c = begin % C;
            for (int64_t j = begin; j < end; j++) {
                const auto value = a.at(c), gate = a.at(C + c);
                const A* noise = a.noise_of(n, HW);
                const T *xv = x + (n * 2 * C + c) * HW, *xg = xv + C * HW;
                write_row<streamed()>(y + j * HW, HW, [&](int64_t i, int64_t left) {
                    if (streamed()) read_ahead(xv + i), read_ahead(xg + i);
                    V z = noisy() ? get(noise + i, left) : V{};
                    V v = get(xv + i, left) * value.scale + value.shift + z;
                    return v * sigmoid<A>(get(xg + i, left) * gate.scale + gate.shift + z);
                });
                if (++c == C) c = 0, n++;
            }
        }); });
        return TUX_OK;
    });
}

// Chunks of pixels as in the epilogue's backward pass.
const int64_t glu_chunk = 1024;
inline int64_t glu_chunks(int64_t HW) { return (HW + glu_chunk - 1) / glu_chunk; }

template <class T>
int glu_backward(const T* g, const T* x, affine<T> a, T* gx, void* gscale_, void* gshift_, void* gnoise_, void* workspace,
                 int64_t N, int64_t C, int64_t HW) {
    typedef arithmetic_t<T> A;
    typedef vec<A> V;
    const int L = lanes<A>::count;
    A *gscale = (A*)gscale_, *gshift = (A*)gshift_, *gnoise = (A*)gnoise_;
    int64_t chunks = glu_chunks(HW);
    A* part = (A*)workspace;                        // [N, chunks, 2C, 2]
    int code = parallel_planes(N * chunks, 8 * C * (HW < glu_chunk ? HW : glu_chunk), [&](int64_t begin, int64_t end) {
        A noise_sum[glu_chunk];
        auto chunk = [&](int64_t j, auto noisy, auto summed) {
            int64_t n = j / chunks, from = j % chunks * glu_chunk, pixels = HW - from < glu_chunk ? HW - from : glu_chunk;
            const A* noise = noisy() ? a.noise_of(n, HW) + from : nullptr;
            if (summed()) memset(noise_sum, 0, pixels * sizeof(A));
            for (int64_t c = 0; c < C; c++) {
                const auto value = a.at(c), gate = a.at(C + c);
                int64_t va = (n * 2 * C + c) * HW + from, ga = va + C * HW;
                const T* gp = g + (n * C + c) * HW + from;
                V sums[4] = {};                     // of w and of w x, for value and gate
                auto step = [&](int64_t i, int64_t left) {
                    V z = noisy() ? get(noise + i, left) : V{};
                    V xv = get(x + va + i, left), xg = get(x + ga + i, left);
                    V v = xv * value.scale + value.shift + z, s = sigmoid<A>(xg * gate.scale + gate.shift + z);
                    V w = get(gp + i, left) * s, wg = w * v * (A(1) - s);
                    sums[0] += w;
                    sums[1] += w * xv;
                    sums[2] += wg;
                    sums[3] += wg * xg;
                    if (summed()) put(noise_sum + i, get(noise_sum + i, left) + w + wg, left);
                    put(gx + va + i, w * value.scale, left);    // through the caches, because streaming to two places in turn is slow
                    put(gx + ga + i, wg * gate.scale, left);
                };
                int64_t i = 0;
                for (; i + L <= pixels; i += L) step(i, L);
                if (i < pixels) step(i, pixels - i);
                A* to = part + (j * 2 * C + c) * 2;
                for (int s = 0; s < 4; s++) to[s / 2 * 2 * C + s % 2] = sum_lanes<A>(sums[s]);
            }
            if (summed()) memcpy(gnoise + n * HW + from, noise_sum, pixels * sizeof(A));
        };
        choose(a.noise, [&](auto noisy) { choose(gnoise, [&](auto summed) {
            for (int64_t j = begin; j < end; j++) chunk(j, noisy, summed);
        }); });
        return TUX_OK;
    });
    for (int64_t n = 0; n < N; n++)
        for (int64_t c = 0; c < 2 * C; c++) {
            A sum = 0, product = 0;
            for (int64_t j = 0; j < chunks; j++) {
                sum += part[((n * chunks + j) * 2 * C + c) * 2];
                product += part[((n * chunks + j) * 2 * C + c) * 2 + 1];
            }
            if (gshift) gshift[n * 2 * C + c] = sum;
            if (gscale) gscale[n * 2 * C + c] = product;
        }
    return code;
}

}  // namespace tux

//---------------------------------------------------------------------------

#define TUX_AFFINE_OF(T) tux::affine<T>{(const tux::arithmetic_t<T>*)scale, (const tux::arithmetic_t<T>*)shift, \
                                        (const tux::arithmetic_t<T>*)noise, noise_per_sample != 0}

extern "C" {

int tux_affine_glu(int dtype, const void* x, const void* scale, const void* shift, const void* noise, int noise_per_sample,
                   void* y, int64_t N, int64_t C, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return tux::glu_forward<T>((const T*)x, TUX_AFFINE_OF(T), (T*)y, N, C, H * W));
}

int64_t tux_affine_glu_backward_workspace(int dtype, int64_t N, int64_t C, int64_t H, int64_t W) {
    return N * tux::glu_chunks(H * W) * 2 * C * 2 * (dtype == TUX_F64 ? 8 : 4);
}

int tux_affine_glu_backward(int dtype, const void* g, const void* x, const void* scale, const void* shift, const void* noise,
                            int noise_per_sample, void* gx, void* gscale, void* gshift, void* gnoise, void* workspace,
                            int64_t N, int64_t C, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return tux::glu_backward<T>((const T*)g, (const T*)x, TUX_AFFINE_OF(T), (T*)gx, gscale, gshift, gnoise,
                                                    workspace, N, C, H * W));
}

//---------------------------------------------------------------------------

int tux_abi_version(void) { return TUX_ABI_VERSION; }

const char* tux_error_string(int code) {
    switch (code) {
        case TUX_OK: return "done";
        case TUX_BAD_DTYPE: return "no kernel for this dtype";
        case TUX_TOO_LARGE: return "too large";
        case TUX_NO_MEMORY: return "out of memory";
        default: return "unknown error";
    }
}

}  // extern "C"
