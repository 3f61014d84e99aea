// 3x3x3 'SAME' convolution and its gradients, float32, channels last.
//
// Winograd's F(2x2, 3x3) over X and Y (Lavin & Gray, 2016, arXiv:1509.09308)
// and direct over Z: 2.25 times fewer products. A tile is 2x2 output voxels
// with all of their Z; blocks of tiles stay in the cache. Vector lanes are
// output channels. Sums run in an order that does not depend on threads, so
// the same input gives the same bits.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

#if !defined(__AVX2__) || !defined(__FMA__)
#error "no AVX2: XLA's own forms are quicker there"
#elif defined(__AVX512F__)
constexpr int kWide = 16;      // lanes of the widest vector
constexpr int kRegisters = 32;
#else
constexpr int kWide = 8;
constexpr int kRegisters = 16;
#endif
constexpr int kTiles = 16;     // tiles of a block
constexpr int kPoints = 16;    // points of F(2x2, 3x3)
constexpr int64_t kMaxChunks = 8;

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 64")
#endif

template <int W>
struct Vector {
  typedef float type __attribute__((vector_size(4 * W)));
};
template <int W>
using V = typename Vector<W>::type;

template <int W>
inline V<W> Load(const float* p) {
  V<W> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <int W>
inline void Store(float* p, V<W> v) {
  std::memcpy(p, &v, sizeof v);
}

struct Shape {
  int64_t batch, nx, ny, nz, c, o;
  int64_t tx() const { return (nx + 1) / 2; }
  int64_t ty() const { return (ny + 1) / 2; }
  int64_t tiles() const { return batch * tx() * ty(); }
  int64_t blocks() const { return (tiles() + kTiles - 1) / kTiles; }
};

// Strides between points; the odd cache line keeps them off the same set.
int64_t PointStride(int64_t length) { return kTiles * length + 16; }

// Memory of one thread, kept between calls.
float* Scratch(size_t floats) {
  thread_local std::vector<float> memory;
  if (memory.size() < floats + 16) memory.resize(floats + 16);
  auto address = reinterpret_cast<uintptr_t>(memory.data());
  return reinterpret_cast<float*>((address + 63) & ~uintptr_t{63});
}

// Calls work(i) for i in [0, count) here and on threads of the pool. Helpers
// that come late find nothing left, so nobody waits for an unstarted one.
template <typename F>
void ParallelFor(ffi::ThreadPool pool, int64_t count, const F& work) {
  struct State {
    std::atomic<int64_t> next{0}, done{0};
  };
  int64_t helpers = std::min<int64_t>(pool.num_threads(), count) - 1;
  if (helpers <= 0) {
    for (int64_t i = 0; i < count; ++i) work(i);
    return;
  }
  auto state = std::make_shared<State>();
  const F* shared = &work;  // alive until every i is done
  auto loop = [state, shared, count] {
    for (int64_t i; (i = state->next.fetch_add(1)) < count;) {
      (*shared)(i);
      state->done.fetch_add(1, std::memory_order_release);
    }
  };
  for (int64_t h = 0; h < helpers; ++h) {
    auto task = loop;
    pool.Schedule(std::move(task));
  }
  loop();
  while (state->done.load(std::memory_order_acquire) < count) {
    std::this_thread::yield();
  }
}

// Start of the Z column of voxel (x, y) of a tile's image, or zeros outside.
inline const float* Column(const float* data, const Shape& s, int64_t length,
                           int64_t image, int64_t x, int64_t y,
                           const float* zeros) {
  if (x < 0 || y < 0 || x >= s.nx || y >= s.ny) return zeros;
  return data + ((image * s.nx + x) * s.ny + y) * length;
}

template <int W>
void InputTransform(const float* const (&d)[4][4], int64_t length, float* out,
                    int64_t stride) {
  for (int64_t l = 0; l < length; l += W) {
    V<W> t[4][4];
    UNROLL for (int j = 0; j < 4; ++j) {
      V<W> a = Load<W>(d[0][j] + l), b = Load<W>(d[1][j] + l);
      V<W> c = Load<W>(d[2][j] + l), e = Load<W>(d[3][j] + l);
      t[0][j] = a - c, t[1][j] = b + c, t[2][j] = c - b, t[3][j] = b - e;
    }
    UNROLL for (int i = 0; i < 4; ++i) {
      float* p = out + 4 * i * stride + l;
      Store<W>(p, t[i][0] - t[i][2]);
      Store<W>(p + stride, t[i][1] + t[i][2]);
      Store<W>(p + 2 * stride, t[i][2] - t[i][1]);
      Store<W>(p + 3 * stride, t[i][1] - t[i][3]);
    }
  }
}

// Output gradients [2][2] to the points.
template <int W>
void GradientTransform(const float* const (&d)[2][2], int64_t length,
                       float* out, int64_t stride) {
  for (int64_t l = 0; l < length; l += W) {
    V<W> t[4][2];
    UNROLL for (int j = 0; j < 2; ++j) {
      V<W> a = Load<W>(d[0][j] + l), b = Load<W>(d[1][j] + l);
      t[0][j] = a, t[1][j] = a + b, t[2][j] = a - b, t[3][j] = -b;
    }
    UNROLL for (int i = 0; i < 4; ++i) {
      float* p = out + 4 * i * stride + l;
      Store<W>(p, t[i][0]);
      Store<W>(p + stride, t[i][0] + t[i][1]);
      Store<W>(p + 2 * stride, t[i][0] - t[i][1]);
      Store<W>(p + 3 * stride, -t[i][1]);
    }
  }
}

template <int W>
void OutputTransform(const float* m, int64_t stride, int64_t length,
                     const float* bias, float* const (&y)[2][2]) {
  for (int64_t l = 0; l < length; l += W) {
    V<W> t[2][4];
    UNROLL for (int j = 0; j < 4; ++j) {
      const float* p = m + j * stride + l;
      V<W> a = Load<W>(p), b = Load<W>(p + 4 * stride);
      V<W> c = Load<W>(p + 8 * stride), e = Load<W>(p + 12 * stride);
      t[0][j] = a + b + c, t[1][j] = b - c - e;
    }
    V<W> shift = Load<W>(bias + l);
    UNROLL for (int i = 0; i < 2; ++i) {
      if (y[i][0]) Store<W>(y[i][0] + l, t[i][0] + t[i][1] + t[i][2] + shift);
      if (y[i][1]) Store<W>(y[i][1] + l, t[i][1] - t[i][2] - t[i][3] + shift);
    }
  }
}

// w [3, 3, 3, C, O] to u [point][C][Z tap][O]. For the input gradient (swap)
// w is [3, 3, 3, O, C], flipped and transposed on the way.
void KernelTransform(const float* w, int64_t c, int64_t o, bool swap,
                     float* u) {
  int64_t plane = 3 * c * o;  // floats of one point
  std::vector<float> turned;
  if (swap) {
    turned.resize(9 * plane);
    for (int64_t tap = 0; tap < 27; ++tap) {
      const float* from = w + (26 - tap) * c * o;
      float* to = turned.data() + tap * c * o;
      for (int64_t i = 0; i < c; ++i)
        for (int64_t j = 0; j < o; ++j) to[i * o + j] = from[j * c + i];
    }
    w = turned.data();
  }
  for (int64_t k = 0; k < 3; ++k) {
    for (int64_t i = 0; i < c; ++i) {
      const float* g = w + (k * c + i) * o;
      float* to = u + (i * 3 + k) * o;
      for (int64_t j = 0; j < o; ++j) {
        float t[4][3];
        for (int y = 0; y < 3; ++y) {
          float a = g[y * plane + j], b = g[(3 + y) * plane + j];
          float d = g[(6 + y) * plane + j];
          t[0][y] = a, t[3][y] = d;
          t[1][y] = .5f * (a + b + d), t[2][y] = .5f * (a - b + d);
        }
        for (int x = 0; x < 4; ++x) {
          float a = t[x][0], b = t[x][1], d = t[x][2];
          float* p = to + 4 * x * plane + j;
          p[0] = a, p[3 * plane] = d;
          p[plane] = .5f * (a + b + d), p[2 * plane] = .5f * (a - b + d);
        }
      }
    }
  }
}

// du [point][C][Z tap][O] to dw [3, 3, 3, C, O].
void KernelGradientTransform(const float* du, int64_t c, int64_t o,
                             float* dw) {
  int64_t plane = 3 * c * o;
  for (int64_t k = 0; k < 3; ++k) {
    for (int64_t i = 0; i < c; ++i) {
      const float* u = du + (i * 3 + k) * o;
      float* to = dw + (k * c + i) * o;
      for (int64_t j = 0; j < o; ++j) {
        float t[3][4];
        for (int y = 0; y < 4; ++y) {
          const float* p = u + y * plane + j;
          float a = p[0], b = p[4 * plane], d = p[8 * plane];
          float e = p[12 * plane];
          t[0][y] = a + .5f * (b + d), t[1][y] = .5f * (b - d);
          t[2][y] = .5f * (b + d) + e;
        }
        for (int x = 0; x < 3; ++x) {
          float a = t[x][0], b = t[x][1], d = t[x][2], e = t[x][3];
          to[3 * x * plane + j] = a + .5f * (b + d);
          to[(3 * x + 1) * plane + j] = .5f * (b - d);
          to[(3 * x + 2) * plane + j] = .5f * (b + d) + e;
        }
      }
    }
  }
}

// m [T][Z][O] = v [T][Z][C] convolved over Z with u [C][3][O], O = N W.
template <int Z, int N, int W, int T>
void Multiply(const float* v, const float* u, int64_t c, float* m) {
  constexpr int O = N * W;
  V<W> sum[T][Z][N] = {};
  for (int64_t i = 0; i < c; ++i) {
    V<W> w[3][N];
    UNROLL for (int k = 0; k < 3; ++k)
      UNROLL for (int n = 0; n < N; ++n)
        w[k][n] = Load<W>(u + (3 * i + k) * O + n * W);
    UNROLL for (int t = 0; t < T; ++t) {
      UNROLL for (int z = 0; z < Z; ++z) {
        float s = v[(t * Z + z) * c + i];
        UNROLL for (int k = 0; k < 3; ++k) {
          int to = z + 1 - k;
          if (to < 0 || to >= Z) continue;
          UNROLL for (int n = 0; n < N; ++n) sum[t][to][n] += s * w[k][n];
        }
      }
    }
  }
  UNROLL for (int t = 0; t < T; ++t)
    UNROLL for (int z = 0; z < Z; ++z)
      UNROLL for (int n = 0; n < N; ++n)
        Store<W>(m + (t * Z + z) * O + n * W, sum[t][z][n]);
}

// du [K channels][3][O] += v [kTiles][Z][C] correlated with g [kTiles][Z][O].
template <int Z, int N, int W, int K>
void Accumulate(const float* v, const float* g, int64_t c, float* du) {
  constexpr int O = N * W;
  V<W> sum[K][3][N];
  UNROLL for (int i = 0; i < K; ++i)
    UNROLL for (int k = 0; k < 3; ++k)
      UNROLL for (int n = 0; n < N; ++n)
        sum[i][k][n] = Load<W>(du + (3 * i + k) * O + n * W);
  for (int t = 0; t < kTiles; ++t) {
    UNROLL for (int z = 0; z < Z; ++z) {
      UNROLL for (int i = 0; i < K; ++i) {
        float s = v[(t * Z + z) * c + i];
        UNROLL for (int k = 0; k < 3; ++k) {
          int from = z + 1 - k;
          if (from < 0 || from >= Z) continue;
          UNROLL for (int n = 0; n < N; ++n)
            sum[i][k][n] += s * Load<W>(g + (t * Z + from) * O + n * W);
        }
      }
    }
  }
  UNROLL for (int i = 0; i < K; ++i)
    UNROLL for (int k = 0; k < 3; ++k)
      UNROLL for (int n = 0; n < N; ++n)
        Store<W>(du + (3 * i + k) * O + n * W, sum[i][k][n]);
}

// The loops for one (Z, O); C is free. O is 8, 16 or 32.
template <int Z, int O>
struct Kernels {
  static constexpr int W = O % kWide == 0 ? kWide : 8;
  static constexpr int N = O / W;
  static constexpr int T = std::max(1, std::min(4, kRegisters / 2 / (Z * N)));
  static constexpr int K = std::max(1, kRegisters * 3 / 4 / (3 * N));

  static void Products(const float* v, int64_t v_stride, const float* u,
                       int64_t c, float* m, int64_t m_stride) {
    for (int p = 0; p < kPoints; ++p)
      for (int t = 0; t < kTiles; t += T)
        Multiply<Z, N, W, T>(v + p * v_stride + t * Z * c, u + p * 3 * c * O,
                             c, m + p * m_stride + t * Z * O);
  }

  static void Correlate(const float* v, int64_t v_stride, const float* g,
                        int64_t g_stride, int64_t c, float* du) {
    for (int p = 0; p < kPoints; ++p) {
      float* to = du + p * 3 * c * O;
      const float* from = v + p * v_stride;
      int64_t i = 0;
      for (; i + K <= c; i += K)
        Accumulate<Z, N, W, K>(from + i, g + p * g_stride, c, to + 3 * i * O);
      for (; i < c; ++i)
        Accumulate<Z, N, W, 1>(from + i, g + p * g_stride, c, to + 3 * i * O);
    }
  }
};

struct Table {
  decltype(&Kernels<8, 8>::Products) products;
  decltype(&Kernels<8, 8>::Correlate) correlate;
};

template <int Z>
Table Pick(int64_t o) {
  switch (o) {
    case 8: return {Kernels<Z, 8>::Products, Kernels<Z, 8>::Correlate};
    case 16: return {Kernels<Z, 16>::Products, Kernels<Z, 16>::Correlate};
    case 32: return {Kernels<Z, 32>::Products, Kernels<Z, 32>::Correlate};
  }
  return {nullptr, nullptr};
}

Table Pick(int64_t z, int64_t o) {
  switch (z) {
    case 2: return Pick<2>(o);
    case 4: return Pick<4>(o);
    case 8: return Pick<8>(o);
  }
  return {nullptr, nullptr};
}

struct Tile {
  int64_t image, x, y;  // first output voxel
  Tile(const Shape& s, int64_t index)
      : image(index / (s.tx() * s.ty())),
        x(index / s.ty() % s.tx() * 2),
        y(index % s.ty() * 2) {}
};

// Points of the inputs of one block; tiles behind the last one are zero.
void TransformInputs(const float* x, const Shape& s, int64_t block,
                     const float* zeros, float* v, int64_t stride) {
  int64_t length = s.nz * s.c;
  for (int t = 0; t < kTiles; ++t) {
    int64_t index = block * kTiles + t;
    const float* d[4][4];
    Tile tile(s, index);
    for (int i = 0; i < 4; ++i)
      for (int j = 0; j < 4; ++j)
        d[i][j] = index < s.tiles()
                      ? Column(x, s, length, tile.image, tile.x + i - 1,
                               tile.y + j - 1, zeros)
                      : zeros;
    if (length % kWide == 0)
      InputTransform<kWide>(d, length, v + t * length, stride);
    else if (length % 8 == 0)
      InputTransform<8>(d, length, v + t * length, stride);
    else
      InputTransform<1>(d, length, v + t * length, stride);
  }
}

void ForwardBlock(const float* x, const float* u, const float* bias, float* y,
                  const Shape& s, const Table& table, int64_t block) {
  int64_t in = s.nz * s.c, out = s.nz * s.o;
  int64_t v_stride = PointStride(in), m_stride = PointStride(out);
  float* zeros = Scratch(in + kPoints * (v_stride + m_stride) + 64);
  float* v = zeros + (in + 15) / 16 * 16;
  float* m = v + kPoints * v_stride;
  std::fill(zeros, zeros + in, 0.f);
  TransformInputs(x, s, block, zeros, v, v_stride);
  table.products(v, v_stride, u, s.c, m, m_stride);
  for (int t = 0; t < kTiles; ++t) {
    int64_t index = block * kTiles + t;
    if (index >= s.tiles()) break;
    Tile tile(s, index);
    float* to[2][2];
    for (int i = 0; i < 2; ++i)
      for (int j = 0; j < 2; ++j)
        to[i][j] = const_cast<float*>(Column(y, s, out, tile.image, tile.x + i,
                                             tile.y + j, nullptr));
    if (out % kWide == 0)
      OutputTransform<kWide>(m + t * out, m_stride, out, bias, to);
    else
      OutputTransform<8>(m + t * out, m_stride, out, bias, to);
  }
}

// Adds a block's part to du [point][C][3][O] and to db [Z O].
void GradientBlock(const float* x, const float* g, const Shape& s,
                   const Table& table, int64_t block, float* du, float* db) {
  int64_t in = s.nz * s.c, out = s.nz * s.o, longest = std::max(in, out);
  int64_t v_stride = PointStride(in), g_stride = PointStride(out);
  float* zeros = Scratch(longest + kPoints * (v_stride + g_stride) + 64);
  float* v = zeros + (longest + 15) / 16 * 16;
  float* q = v + kPoints * v_stride;
  std::fill(zeros, zeros + longest, 0.f);
  TransformInputs(x, s, block, zeros, v, v_stride);
  for (int t = 0; t < kTiles; ++t) {
    int64_t index = block * kTiles + t;
    Tile tile(s, index);
    const float* d[2][2];
    for (int i = 0; i < 2; ++i)
      for (int j = 0; j < 2; ++j)
        d[i][j] = index < s.tiles() ? Column(g, s, out, tile.image, tile.x + i,
                                             tile.y + j, zeros)
                                    : zeros;
    if (out % kWide == 0)
      GradientTransform<kWide>(d, out, q + t * out, g_stride);
    else
      GradientTransform<8>(d, out, q + t * out, g_stride);
    // Point (1, 1) is the sum over the tile.
    const float* total = q + 5 * g_stride + t * out;
    for (int64_t l = 0; l < out; ++l) db[l] += total[l];
  }
  table.correlate(v, v_stride, q, g_stride, s.c, du);
}

using Array = ffi::Buffer<ffi::F32>;

ffi::Error Wrong() {
  return ffi::Error::InvalidArgument("winograd: shapes are not supported");
}

// y = x * w + bias; with swap, w [3, 3, 3, O, C] as in the input gradient.
ffi::Error Forward(ffi::ThreadPool pool, bool swap, Array x, Array w,
                   Array bias, ffi::Result<Array> y) {
  auto a = x.dimensions(), b = y->dimensions();
  if (a.size() != 5 || b.size() != 5) return Wrong();
  Shape s{a[0], a[1], a[2], a[3], a[4], b[4]};
  Table table = Pick(s.nz, s.o);
  if (!table.products || w.element_count() != size_t(27 * s.c * s.o) ||
      bias.element_count() != size_t(s.o))
    return Wrong();
  std::vector<float> u(kPoints * 3 * s.c * s.o), shift(s.nz * s.o);
  KernelTransform(w.typed_data(), s.c, s.o, swap, u.data());
  for (int64_t z = 0; z < s.nz; ++z)
    std::copy_n(bias.typed_data(), s.o, shift.data() + z * s.o);
  ParallelFor(pool, s.blocks(), [&](int64_t block) {
    ForwardBlock(x.typed_data(), u.data(), shift.data(), y->typed_data(), s,
                 table, block);
  });
  return ffi::Error::Success();
}

// Kernel gradient dw [3, 3, 3, C, O] and bias gradient db [O].
ffi::Error Gradient(ffi::ThreadPool pool, Array x, Array g,
                    ffi::Result<Array> dw, ffi::Result<Array> db) {
  auto a = x.dimensions(), b = g.dimensions();
  if (a.size() != 5 || b.size() != 5) return Wrong();
  Shape s{a[0], a[1], a[2], a[3], a[4], b[4]};
  Table table = Pick(s.nz, s.o);
  if (!table.correlate || dw->element_count() != size_t(27 * s.c * s.o) ||
      db->element_count() != size_t(s.o))
    return Wrong();
  int64_t points = kPoints * 3 * s.c * s.o, length = s.nz * s.o;
  // The number of partial sums depends on the shape alone.
  int64_t chunks =
      std::clamp<int64_t>(s.blocks() / 4, 1, kMaxChunks);
  std::vector<float> sums(chunks * (points + length));
  ParallelFor(pool, chunks, [&](int64_t chunk) {
    float* du = sums.data() + chunk * (points + length);
    int64_t end = s.blocks() * (chunk + 1) / chunks;
    for (int64_t i = s.blocks() * chunk / chunks; i < end; ++i)
      GradientBlock(x.typed_data(), g.typed_data(), s, table, i, du,
                    du + points);
  });
  for (int64_t chunk = 1; chunk < chunks; ++chunk) {
    const float* from = sums.data() + chunk * (points + length);
    for (int64_t i = 0; i < points + length; ++i) sums[i] += from[i];
  }
  KernelGradientTransform(sums.data(), s.c, s.o, dw->typed_data());
  float* to = db->typed_data();
  std::fill(to, to + s.o, 0.f);
  for (int64_t l = 0; l < length; ++l) to[l % s.o] += sums[points + l];
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(CmbjaxForward, Forward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Attr<bool>("swap")
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Ret<Array>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(CmbjaxGradient, Gradient,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>());
