// The epilogue of a modulated layer: forward, slope, and all gradients in one pass. See ../abi.h.

#include "../abi.h"
#include "launch.h"
#include "strips.h"

namespace tux {

template <class T> struct epilogue {
    typedef arithmetic_t<T> A;
    typedef vec<A> V;
    static const int L = lanes<A>::count;

    const A *demod, *noise, *bias;
    bool noise_per_sample, from_output, bounded;
    A alpha, gain, clamp, edge;

    epilogue(const tux_epilogue_args* a, int from_output) :
        demod((const A*)a->demod), noise((const A*)a->noise), bias((const A*)a->bias), noise_per_sample(a->noise_per_sample),
        from_output(from_output), bounded(a->clamp >= 0), alpha(a->act == TUX_LRELU ? a->alpha : 1), gain(a->gain),
        clamp(a->clamp), edge(a->clamp)
    {
        T rounded[L];                               // where an output in T counts as beyond the clamp
        store(rounded, splat<A>(clamp));
        edge = load(rounded)[0];
    }

    // The activation before its gain, for one plane.
    struct plane {
        V demod, bias;
        const A* noise;
        bool plain;

        TUX_INLINE V u(V x, int64_t i, int n) const {
            V v = x * demod + bias;
            if (noise) v += n < L ? load_part(noise + i, n) : load(noise + i);
            return v;
        }
    };

    TUX_INLINE plane at(int64_t n, int64_t c, int64_t C, int64_t HW) const {
        return {splat<A>(demod ? demod[n * C + c] : A(1)), splat<A>(bias ? bias[c] : A(0)),
                noise ? noise + (noise_per_sample ? n * HW : 0) : nullptr, !demod};
    }

    TUX_INLINE V value(V u) const {
        V y = u > 0 ? u * gain : u * (alpha * gain);
        if (bounded) {
            y = y > clamp ? splat<A>(clamp) : y;
            y = y < -clamp ? splat<A>(-clamp) : y;
        }
        return y;
    }

    TUX_INLINE V slope(V saved, const plane& p, int64_t i, int n) const {
        V u = from_output ? saved : p.u(saved, i, n);
        V m = u > 0 ? splat<A>(gain) : splat<A>(alpha * gain);
        if (bounded && from_output) m = (u >= edge) | (u <= -edge) ? V{} : m;
        if (bounded && !from_output) {
            V y = u * m;
            m = (y > clamp) | (y < -clamp) ? V{} : m;
        }
        return m;
    }
};

template <class T> TUX_INLINE vec<arithmetic_t<T>> get(const T* p, int64_t n) {
    return n >= lanes<arithmetic_t<T>>::count ? load(p) : load_part(p, (int)n);
}

template <class T>
int epilogue_forward(const T* x, const tux_epilogue_args* args, T* y, int64_t N, int64_t C, int64_t HW) {
    typedef arithmetic_t<T> A;
    const epilogue<T> e(args, 0);
    return parallel_planes(N * C, HW, [&](int64_t begin, int64_t end) {
        const int L = lanes<A>::count;
        for (int64_t j = begin; j < end; j++) {
            auto p = e.at(j / C, j % C, C, HW);
            const T* from = x + j * HW;
            T* to = y + j * HW;
            int64_t i = 0;
            if (p.noise) for (; i + L <= HW; i += L) store(to + i, e.value(load(from + i) * p.demod + p.bias + load(p.noise + i)));
            else for (; i + L <= HW; i += L) store(to + i, e.value(load(from + i) * p.demod + p.bias));
            if (i < HW) store_part(to + i, e.value(p.u(load_part(from + i, (int)(HW - i)), i, (int)(HW - i))), (int)(HW - i));
        }
        return TUX_OK;
    });
}

template <class T>
int epilogue_slope(const T* g, const T* saved, int from_output, const tux_epilogue_args* args, T* out, int64_t N, int64_t C,
                   int64_t HW) {
    typedef arithmetic_t<T> A;
    const epilogue<T> e(args, from_output);
    return parallel_planes(N * C, HW, [&](int64_t begin, int64_t end) {
        for (int64_t j = begin; j < end; j++) {
            auto p = e.at(j / C, j % C, C, HW);
            for (int64_t i = 0; i < HW; i += lanes<A>::count) {
                int64_t n = HW - i, at = j * HW + i;
                put<T, A>(out + at, get(g + at, n) * e.slope(get(saved + at, n), p, i, n < lanes<A>::count ? (int)n : lanes<A>::count), n);
            }
        }
        return TUX_OK;
    });
}

//---------------------------------------------------------------------------
// A sample's pixels go in chunks: within one, all channels are visited and the sum for the noise stays in the first-level cache.
// Sums over pixels are kept per chunk in the workspace, and added in order.

const int64_t chunk_pixels = 1024;

inline int64_t chunks_of(int64_t HW) { return (HW + chunk_pixels - 1) / chunk_pixels; }

template <class T>
int epilogue_backward(const T* g, const T* saved, int from_output, const tux_epilogue_args* args, T* gx, void* gdemod_, void* gnoise_,
                      void* gbias_, void* workspace, int64_t N, int64_t C, int64_t HW) {
    typedef arithmetic_t<T> A;
    typedef vec<A> V;
    const int L = lanes<A>::count;
    A *gdemod = (A*)gdemod_, *gnoise = (A*)gnoise_, *gbias = (A*)gbias_;
    const epilogue<T> e(args, from_output);
    int64_t chunks = chunks_of(HW);
    A* part = (A*)workspace;                        // [N, chunks, C, 2]
    int code = parallel_planes(N * chunks, C * (HW < chunk_pixels ? HW : chunk_pixels), [&](int64_t begin, int64_t end) {
        A noise_sum[chunk_pixels];
        for (int64_t j = begin; j < end; j++) {
            int64_t n = j / chunks, from = j % chunks * chunk_pixels, pixels = HW - from < chunk_pixels ? HW - from : chunk_pixels;
            if (gnoise) memset(noise_sum, 0, sizeof noise_sum);
            for (int64_t c = 0; c < C; c++) {
                auto p = e.at(n, c, C, HW);
                if (p.noise) p.noise += from;
                const V d = p.demod;
                const T *gp = g + (n * C + c) * HW + from, *sp = saved + (n * C + c) * HW + from;
                T* to = gx + (n * C + c) * HW + from;
                V sum = {}, product = {};
                auto step = [&](V gv, V sv, int64_t i, int count) {
                    V v = gv * e.slope(sv, p, i, count);
                    sum += v;
                    product += v * sv;
                    if (gnoise) store(noise_sum + i, load(noise_sum + i) + v);
                    return v * d;
                };
                int64_t i = 0;
                for (; i + L <= pixels; i += L) store(to + i, step(load(gp + i), load(sp + i), i, L));
                if (i < pixels) {
                    int rest = (int)(pixels - i);
                    store_part(to + i, step(load_part(gp + i, rest), load_part(sp + i, rest), i, rest), rest);
                }
                part[(j * C + c) * 2] = sum_lanes<A>(sum);
                part[(j * C + c) * 2 + 1] = sum_lanes<A>(product);
            }
            if (gnoise) memcpy(gnoise + n * HW + from, noise_sum, pixels * sizeof(A));
        }
        return TUX_OK;
    });
    for (int64_t n = 0; n < N; n++)
        for (int64_t c = 0; c < C; c++) {
            A sum = 0, product = 0;
            for (int64_t j = 0; j < chunks; j++) {
                sum += part[((n * chunks + j) * C + c) * 2];
                product += part[((n * chunks + j) * C + c) * 2 + 1];
            }
            if (gbias) gbias[n * C + c] = sum;
            if (gdemod) gdemod[n * C + c] = product;
        }
    return code;
}

}  // namespace tux

//---------------------------------------------------------------------------

extern "C" {

int tux_epilogue(int dtype, const void* x, const tux_epilogue_args* args, void* y,
                 int64_t N, int64_t C, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return tux::epilogue_forward((const T*)x, args, (T*)y, N, C, H * W));
}

int tux_epilogue_slope(int dtype, const void* g, const void* saved, int from_output, const tux_epilogue_args* args, void* out,
                       int64_t N, int64_t C, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return tux::epilogue_slope((const T*)g, (const T*)saved, from_output, args, (T*)out, N, C, H * W));
}

int64_t tux_epilogue_backward_workspace(int dtype, int64_t N, int64_t C, int64_t H, int64_t W) {
    return N * tux::chunks_of(H * W) * C * 2 * (dtype == TUX_F64 ? 8 : 4);
}

int tux_epilogue_backward(int dtype, const void* g, const void* saved, int from_output, const tux_epilogue_args* args,
                          void* gx, void* gdemod, void* gnoise, void* gbias, void* workspace,
                          int64_t N, int64_t C, int64_t H, int64_t W, void*) {
    TUX_DISPATCH(dtype, return tux::epilogue_backward((const T*)g, (const T*)saved, from_output, args, (T*)gx, gdemod, gnoise, gbias,
                                                      workspace, N, C, H * W));
}

}  // extern "C"
