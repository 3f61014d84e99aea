// 3x3x3 'SAME' convolution and its gradients, float32, channels last.
//
// Winograd's F(4x4, 3x3) over X and Y (Lavin & Gray, 2016, arXiv:1509.09308)
// and direct over Z: 4 times fewer products. A tile is 4x4 output voxels
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

#if defined(__AVX512F__)
constexpr int kWide = 16;      // lanes of the widest vector
constexpr int kRegisters = 32;
#elif defined(__AVX2__) && defined(__FMA__)
constexpr int kWide = 8;
constexpr int kRegisters = 16;
#elif defined(__ARM_NEON)
constexpr int kWide = 4;
constexpr int kRegisters = 32;
#else
#error "no AVX2 and no NEON: XLA's own forms are quicker there"
#endif
constexpr int kTiles = 8;      // tiles of a block: it stays in the L2 cache
constexpr int kSide = 4;       // output voxels of a tile along X and Y
constexpr int kPoints = 36;    // points of F(4x4, 3x3)
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
  int64_t tx() const { return (nx + kSide - 1) / kSide; }
  int64_t ty() const { return (ny + kSide - 1) / kSide; }
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

// One axis of F(4, 3) with the points 0, +-kA, +-kB and infinity: kA kB = 1
// keeps the numbers near 1, and the rounding at a few times that of F(2, 3).
constexpr double kA = 2. / 3, kB = 3. / 2;
constexpr float kA1 = kA, kA2 = kA * kA, kA3 = kA * kA * kA;
constexpr float kB1 = kB, kB2 = kB * kB, kB3 = kB * kB * kB;
constexpr float kBoth = kA * kA + kB * kB;
constexpr float kGA = 1 / (2 * kA * kA * (kA * kA - kB * kB));
constexpr float kGB = 1 / (2 * kB * kB * (kB * kB - kA * kA));

// 6 inputs to 6 points.
template <typename T>
inline void ToPoints(const T (&d)[6], T (&p)[6]) {
  p[0] = d[0] - kBoth * d[2] + d[4];
  T a = d[4] - kB2 * d[2], b = kA1 * (d[3] - kB2 * d[1]);
  p[1] = a + b, p[2] = a - b;
  a = d[4] - kA2 * d[2], b = kB1 * (d[3] - kA2 * d[1]);
  p[3] = a + b, p[4] = a - b;
  p[5] = d[1] - kBoth * d[3] + d[5];
}

// 6 points to 4 outputs, and its transpose: 4 output gradients to 6 points.
template <typename T>
inline void FromPoints(const T (&p)[6], T (&y)[4]) {
  T a = p[1] + p[2], b = p[1] - p[2], c = p[3] + p[4], d = p[3] - p[4];
  y[0] = p[0] + a + c, y[1] = kA1 * b + kB1 * d;
  y[2] = kA2 * a + kB2 * c, y[3] = kA3 * b + kB3 * d + p[5];
}
template <typename T>
inline void GradientToPoints(const T (&g)[4], T (&p)[6]) {
  T a = g[0] + kA2 * g[2], b = kA1 * g[1] + kA3 * g[3];
  p[0] = g[0], p[1] = a + b, p[2] = a - b;
  a = g[0] + kB2 * g[2], b = kB1 * g[1] + kB3 * g[3];
  p[3] = a + b, p[4] = a - b, p[5] = g[3];
}

// 3 taps to 6 points, and its transpose.
template <typename T>
inline void TapsToPoints(const T (&w)[3], T (&p)[6]) {
  T a = kGA * w[0] + kGA * kA2 * w[2], b = kGA * kA1 * w[1];
  p[0] = w[0], p[1] = a + b, p[2] = a - b;
  a = kGB * w[0] + kGB * kB2 * w[2], b = kGB * kB1 * w[1];
  p[3] = a + b, p[4] = a - b, p[5] = w[2];
}
template <typename T>
inline void TapsFromPoints(const T (&p)[6], T (&w)[3]) {
  T a = p[1] + p[2], b = p[1] - p[2], c = p[3] + p[4], d = p[3] - p[4];
  w[0] = p[0] + kGA * a + kGB * c;
  w[1] = kGA * kA1 * b + kGB * kB1 * d;
  w[2] = kGA * kA2 * a + kGB * kB2 * c + p[5];
}

// `change` on both axes of [N][N], to [M][M].
template <int N, int M, typename T, typename F>
inline void Twice(const T (&in)[N][N], T (&out)[M][M], const F& change) {
  T half[N][M];  // the first axis is changed, and turned to the end
  UNROLL for (int j = 0; j < N; ++j) {
    T column[N];
    UNROLL for (int i = 0; i < N; ++i) column[i] = in[i][j];
    change(column, half[j]);
  }
  UNROLL for (int i = 0; i < M; ++i) {
    T row[N];
    UNROLL for (int j = 0; j < N; ++j) row[j] = half[j][i];
    change(row, out[i]);
  }
}

template <int W>
void InputTransform(const float* const (&d)[6][6], int64_t length, float* out,
                    int64_t stride) {
  for (int64_t l = 0; l < length; l += W) {
    V<W> in[6][6], p[6][6];
    UNROLL for (int i = 0; i < 6; ++i)
      UNROLL for (int j = 0; j < 6; ++j) in[i][j] = Load<W>(d[i][j] + l);
    Twice<6, 6>(in, p, ToPoints<V<W>>);
    UNROLL for (int i = 0; i < 6; ++i)
      UNROLL for (int j = 0; j < 6; ++j)
        Store<W>(out + (6 * i + j) * stride + l, p[i][j]);
  }
}

// Output gradients of a tile to the points; their sum is added to `total`.
template <int W>
void GradientTransform(const float* const (&d)[4][4], int64_t length,
                       float* out, int64_t stride, float* total) {
  for (int64_t l = 0; l < length; l += W) {
    V<W> in[4][4], p[6][6], sum = Load<W>(total + l);
    UNROLL for (int i = 0; i < 4; ++i)
      UNROLL for (int j = 0; j < 4; ++j) {
        in[i][j] = Load<W>(d[i][j] + l);
        sum += in[i][j];
      }
    Store<W>(total + l, sum);
    Twice<4, 6>(in, p, GradientToPoints<V<W>>);
    UNROLL for (int i = 0; i < 6; ++i)
      UNROLL for (int j = 0; j < 6; ++j)
        Store<W>(out + (6 * i + j) * stride + l, p[i][j]);
  }
}

template <int W>
void OutputTransform(const float* m, int64_t stride, int64_t length,
                     const float* bias, float* const (&y)[4][4]) {
  for (int64_t l = 0; l < length; l += W) {
    V<W> p[6][6], out[4][4], shift = Load<W>(bias + l);
    UNROLL for (int i = 0; i < 6; ++i)
      UNROLL for (int j = 0; j < 6; ++j)
        p[i][j] = Load<W>(m + (6 * i + j) * stride + l);
    Twice<6, 4>(p, out, FromPoints<V<W>>);
    UNROLL for (int i = 0; i < 4; ++i)
      UNROLL for (int j = 0; j < 4; ++j)
        if (y[i][j]) Store<W>(y[i][j] + l, out[i][j] + shift);
  }
}

// w [3, 3, 3, C, O] to u [point][C][Z tap][O]. For the input gradient (swap)
// w is [3, 3, 3, O, C], flipped and transposed on the way.
template <int W>
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
    for (int64_t l = 0; l < c * o; l += W) {
      V<W> taps[3][3], p[6][6];
      const float* from = w + k * c * o + l;
      UNROLL for (int i = 0; i < 3; ++i)
        UNROLL for (int j = 0; j < 3; ++j)
          taps[i][j] = Load<W>(from + (3 * i + j) * plane);
      Twice<3, 6>(taps, p, TapsToPoints<V<W>>);
      float* to = u + (l / o * 3 + k) * o + l % o;
      UNROLL for (int i = 0; i < 6; ++i)
        UNROLL for (int j = 0; j < 6; ++j)
          Store<W>(to + (6 * i + j) * plane, p[i][j]);
    }
  }
}

// du [point][C][Z tap][O] to dw [3, 3, 3, C, O].
template <int W>
void KernelGradientTransform(const float* du, int64_t c, int64_t o,
                             float* dw) {
  int64_t plane = 3 * c * o;
  for (int64_t k = 0; k < 3; ++k) {
    for (int64_t l = 0; l < c * o; l += W) {
      V<W> p[6][6], taps[3][3];
      const float* from = du + (l / o * 3 + k) * o + l % o;
      UNROLL for (int i = 0; i < 6; ++i)
        UNROLL for (int j = 0; j < 6; ++j)
          p[i][j] = Load<W>(from + (6 * i + j) * plane);
      Twice<6, 3>(p, taps, TapsFromPoints<V<W>>);
      float* to = dw + k * c * o + l;
      UNROLL for (int i = 0; i < 3; ++i)
        UNROLL for (int j = 0; j < 3; ++j)
          Store<W>(to + (3 * i + j) * plane, taps[i][j]);
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
        x(index / s.ty() % s.tx() * kSide),
        y(index % s.ty() * kSide) {}
};

// Points of the inputs of one block; tiles behind the last one are zero.
void TransformInputs(const float* x, const Shape& s, int64_t block,
                     const float* zeros, float* v, int64_t stride) {
  int64_t length = s.nz * s.c;
  for (int t = 0; t < kTiles; ++t) {
    int64_t index = block * kTiles + t;
    const float* d[6][6];
    Tile tile(s, index);
    for (int i = 0; i < 6; ++i)
      for (int j = 0; j < 6; ++j)
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
    float* to[kSide][kSide];
    for (int i = 0; i < kSide; ++i)
      for (int j = 0; j < kSide; ++j)
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
    const float* d[kSide][kSide];
    for (int i = 0; i < kSide; ++i)
      for (int j = 0; j < kSide; ++j)
        d[i][j] = index < s.tiles() ? Column(g, s, out, tile.image, tile.x + i,
                                             tile.y + j, zeros)
                                    : zeros;
    if (out % kWide == 0)
      GradientTransform<kWide>(d, out, q + t * out, g_stride, db);
    else
      GradientTransform<8>(d, out, q + t * out, g_stride, db);
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
  (s.o % kWide ? KernelTransform<8> : KernelTransform<kWide>)(
      w.typed_data(), s.c, s.o, swap, u.data());
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
  (s.o % kWide ? KernelGradientTransform<8> : KernelGradientTransform<kWide>)(
      sums.data(), s.c, s.o, dw->typed_data());
  float* to = db->typed_data();
  std::fill(to, to + s.o, 0.f);
  for (int64_t l = 0; l < length; ++l) to[l % s.o] += sums[points + l];
  return ffi::Error::Success();
}

// Adds rows [count][length] of x, and of x y, to `to` [2][length].
template <int W>
void AddRows(const float* x, const float* y, int64_t count, int64_t length,
             float* to) {
  for (int64_t l = 0; l < length; l += W) {
    V<W> sum[2] = {}, product[2] = {};
    for (int64_t i = 0; i < count; ++i) {
      V<W> a = Load<W>(x + i * length + l);
      sum[i % 2] += a;
      product[i % 2] += a * Load<W>(y + i * length + l);
    }
    Store<W>(to + l, Load<W>(to + l) + (sum[0] + sum[1]));
    to += length;
    Store<W>(to + l, Load<W>(to + l) + (product[0] + product[1]));
    to -= length;
  }
}

// Sums [C] of x and of x y over all voxels of [B, X, Y, Z, C], in one pass.
ffi::Error Sums(ffi::ThreadPool pool, Array x, Array y, ffi::Result<Array> sum,
                ffi::Result<Array> product) {
  auto a = x.dimensions();
  if (a.size() != 5 || x.element_count() != y.element_count()) return Wrong();
  int64_t c = a[4], length = a[3] * c, rows = a[0] * a[1] * a[2];
  if (length % 8 || sum->element_count() != size_t(c) ||
      product->element_count() != size_t(c))
    return Wrong();
  int64_t chunks = std::clamp<int64_t>(rows / 256, 1, kMaxChunks);
  std::vector<float> sums(chunks * 2 * length);
  ParallelFor(pool, chunks, [&](int64_t chunk) {
    float* to = sums.data() + chunk * 2 * length;
    int64_t end = rows * (chunk + 1) / chunks, count;
    for (int64_t i = rows * chunk / chunks; i < end; i += count) {
      count = std::min<int64_t>(64, end - i);  // short sums round less
      (length % kWide ? AddRows<8> : AddRows<kWide>)(
          x.typed_data() + i * length, y.typed_data() + i * length, count,
          length, to);
    }
  });
  for (int64_t chunk = 1; chunk < chunks; ++chunk)
    for (int64_t i = 0; i < 2 * length; ++i)
      sums[i] += sums[chunk * 2 * length + i];
  std::fill_n(sum->typed_data(), c, 0.f);
  std::fill_n(product->typed_data(), c, 0.f);
  for (int64_t l = 0; l < length; ++l) {
    sum->typed_data()[l % c] += sums[l];
    product->typed_data()[l % c] += sums[length + l];
  }
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
XLA_FFI_DEFINE_HANDLER_SYMBOL(CmbjaxSums, Sums,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Array>()
                                  .Arg<Array>()
                                  .Ret<Array>()
                                  .Ret<Array>());
