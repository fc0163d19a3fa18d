/* A decoding step on a CPU in float32, for rows that each have a length of their own: norms, gates and attention one by one,
 * or the whole step of a small model in one call.
 *
 * A step's matrices are small, so torch's many small operations around them cost more than they do. torch's attention
 * pays two calls of a matrix library for every row and head, of a few hundred numbers each. Here the query heads that
 * share a key-value head go through its keys and values together, in tiles of HEADS x LANES numbers that stay in
 * registers. Keys lie in blocks of LANES positions, [blocks, head_dim, LANES], so that both products have the same shape:
 * tile[head][lane] += a[head][k] * b[k][lane].
 *
 * Built when the package is installed, if there is a compiler; without it torch does the same (see kernels.py).
 */
#include <math.h>
#include <stddef.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#define THREAD omp_get_thread_num()
#else
#define THREAD 0
#endif

#define HEADS 4   /* query heads at a time */
#define LANES 16  /* positions, or numbers of a value, at a time */
#define CHUNK 256 /* positions whose scores are held at a time */
#define WIDEST 256 /* head_dim at most */
#define NEVER -1e30f
#define MANY 8192 /* numbers that are worth a second thread */
#define ROWS 3    /* rows of a product at a time, */
#define OUTS 4    /* by outputs: their sums, a column of the rows and a weight fill the registers of AVX2 */
#define NEAR 4096 /* numbers of a product's rows that stay next to the core */

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__linux__)
#define FOR_EACH_CPU __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EACH_CPU
#endif

typedef struct {
    long heads, key_value_heads, head_dim, window; /* window 0: all positions */
    float scaling;
} Shape;

typedef float Half __attribute__((vector_size(LANES / 2 * sizeof(float)), aligned(sizeof(float))));
typedef float Quarter __attribute__((vector_size(LANES / 4 * sizeof(float)), aligned(sizeof(float))));

/* tile += a b, with `depth` rows of b, `stride` numbers apart; a[head] is `width` numbers apart. */
static inline __attribute__((always_inline)) void multiply(
    Half tile[HEADS][2], const float *a, long width, const float *b, long stride, long depth)
{
    Half t00 = tile[0][0], t01 = tile[0][1], t10 = tile[1][0], t11 = tile[1][1];
    Half t20 = tile[2][0], t21 = tile[2][1], t30 = tile[3][0], t31 = tile[3][1];
    for (long k = 0; k < depth; k++) {
        Half left = *(const Half *)(b + k * stride), right = *(const Half *)(b + k * stride + LANES / 2);
        t00 += a[k] * left, t01 += a[k] * right;
        t10 += a[width + k] * left, t11 += a[width + k] * right;
        t20 += a[2 * width + k] * left, t21 += a[2 * width + k] * right;
        t30 += a[3 * width + k] * left, t31 += a[3 * width + k] * right;
    }
    tile[0][0] = t00, tile[0][1] = t01, tile[1][0] = t10, tile[1][1] = t11;
    tile[2][0] = t20, tile[2][1] = t21, tile[3][0] = t30, tile[3][1] = t31;
}

/* Rotates a head: `cos` and `sin` [head_dim], the first half of `sin` with its sign changed. */
static inline __attribute__((always_inline)) void turn(
    float *to, const float *from, const float *cos, const float *sin, long size, float factor)
{
    long half = size / 2;
    for (long i = 0; i < half; i++) {
        to[i] = (from[i] * cos[i] + from[i + half] * sin[i]) * factor;
        to[i + half] = (from[i + half] * cos[i + half] + from[i] * sin[i + half]) * factor;
    }
}

/* Asks for numbers that will be read soon. */
static inline __attribute__((always_inline)) void fetch(const float *from, long count)
{
    for (long i = 0; i < count; i += 64 / sizeof(float)) __builtin_prefetch(from + i);
}

/* HEADS query heads (`count` of them real) over the positions first..position of one key-value head. */
static inline __attribute__((always_inline)) void attend_heads(
    const Shape *shape, float query[HEADS][WIDEST], int count, const float *keys, const float *values, long first,
    long position, float *out)
{
    float scores[HEADS][CHUNK], sums[HEADS][WIDEST], most[HEADS], total[HEADS];
    long size = shape->head_dim;
    for (int head = 0; head < HEADS; head++) {
        most[head] = NEVER, total[head] = 0;
        memset(sums[head], 0, size * sizeof(float));
    }
    for (long start = first / LANES * LANES; start <= position; start += CHUNK) {
        long held = position + 1 - start < CHUNK ? position + 1 - start : CHUNK;
        for (long t = 0; t < held; t += LANES) {
            Half tile[HEADS][2] = {0};
            fetch(values + (start + t) * size, LANES * size); /* while the keys are at work */
            multiply(tile, query[0], WIDEST, keys + (start + t) * size, LANES, size);
            for (int head = 0; head < HEADS; head++) memcpy(scores[head] + t, &tile[head], sizeof tile[head]);
        }
        for (int head = 0; head < HEADS; head++) {
            float *score = scores[head], peak = most[head], sum = 0;
            for (long t = 0; t < first - start; t++) score[t] = NEVER;
            for (long t = 0; t < held; t++) peak = score[t] > peak ? score[t] : peak;
            for (long t = 0; t < held; t++) score[t] = expf(score[t] - peak);
            for (long t = 0; t < held; t++) sum += score[t];
            float before = expf(most[head] - peak);
            total[head] = total[head] * before + sum, most[head] = peak;
            if (start > first) for (long i = 0; i < size; i++) sums[head][i] *= before;
        }
        for (long i = 0; i < size; i += LANES) {
            Half tile[HEADS][2];
            for (int head = 0; head < HEADS; head++) memcpy(&tile[head], sums[head] + i, sizeof tile[head]);
            multiply(tile, scores[0], CHUNK, values + start * size + i, size, held);
            for (int head = 0; head < HEADS; head++) memcpy(sums[head] + i, &tile[head], sizeof tile[head]);
        }
    }
    for (int head = 0; head < count; head++)
        for (long i = 0; i < size; i++) out[head * size + i] = sums[head][i] / total[head];
}

/* One row and one key-value head: turns and stores the new key, stores the new value, and attends. */
FOR_EACH_CPU static void attend_one(
    const Shape *shape, long head, const float *qkv, const float *cos, const float *sin, float *keys, float *values,
    long position, float *out)
{
    long size = shape->head_dim, group = shape->heads / shape->key_value_heads;
    const float *key = qkv + (shape->heads + head) * size, *value = key + shape->key_value_heads * size;
    float turned[WIDEST], query[HEADS][WIDEST];
    turn(turned, key, cos, sin, size, 1);
    float *block = keys + position / LANES * LANES * size + position % LANES;
    for (long i = 0; i < size; i++) block[i * LANES] = turned[i];
    memcpy(values + position * size, value, size * sizeof(float));
    long first = shape->window && position >= shape->window ? position - shape->window + 1 : 0;
    for (long at = 0; at < group; at += HEADS) {
        int count = group - at < HEADS ? group - at : HEADS;
        for (int i = 0; i < HEADS; i++) {
            long which = head * group + at + (i < count ? i : 0);
            turn(query[i], qkv + which * size, cos, sin, size, shape->scaling);
        }
        attend_heads(shape, query, count, keys, values, first, position, out + (head * group + at) * size);
    }
}

/* qkv [rows, heads + 2 key_value_heads, head_dim], before the rotation; cos and sin [positions, head_dim];
 * keys [slots, key_value_heads, capacity / LANES, head_dim, LANES], values [slots, key_value_heads, capacity, head_dim],
 * of which each row has its slot, written at the row's position; out [rows, heads, head_dim]. head_dim and capacity are
 * multiples of LANES. */
void attend(
    long rows, long heads, long key_value_heads, long head_dim, long capacity, long window, float scaling,
    const float *qkv, const float *cos, const float *sin, float *keys, float *values, const long long *slots,
    const long long *positions, float *out)
{
    Shape shape = {heads, key_value_heads, head_dim, window, scaling};
    long width = (heads + 2 * key_value_heads) * head_dim, held = head_dim * capacity;
    /* One at a time, in turn: the first rows are the oldest and longest. */
#pragma omp parallel for schedule(static, 1) if (rows > 1)
    for (long at = 0; at < rows * key_value_heads; at++) {
        long row = at / key_value_heads, head = at % key_value_heads, position = positions[row];
        long place = (slots[row] * key_value_heads + head) * held;
        attend_one(&shape, head, qkv + row * width, cos + position * head_dim, sin + position * head_dim, keys + place,
                   values + place, position, out + row * heads * head_dim);
    }
}

FOR_EACH_CPU static void norm_one(long size, float eps, const float *x, const float *weight, float *out)
{
    float sum = 0;
    for (long i = 0; i < size; i++) sum += x[i] * x[i];
    float factor = 1 / sqrtf(sum / size + eps);
#pragma GCC ivdep /* `out` may be `x` */
    for (long i = 0; i < size; i++) out[i] = x[i] * factor * weight[i];
}

/* Root-mean-square norm of x [rows, size] into out. */
void norm(long rows, long size, float eps, const float *x, const float *weight, float *out)
{
#pragma omp parallel for schedule(static) if (rows * size > MANY)
    for (long row = 0; row < rows; row++) norm_one(size, eps, x + row * size, weight, out + row * size);
}

FOR_EACH_CPU static void gate_one(long size, const float *gate_up, float *out)
{
#pragma GCC ivdep /* `out` may be `gate_up` */
    for (long i = 0; i < size; i++) {
        float away = -gate_up[i] < 80 ? -gate_up[i] : 80; /* beyond that exp overflows, and the quotient is nothing */
        out[i] = gate_up[i] / (1 + expf(away)) * gate_up[size + i];
    }
}

/* silu(gate) * up of gate_up [rows, 2 size] into out [rows, size]. */
void gate(long rows, long size, const float *gate_up, float *out)
{
#pragma omp parallel for schedule(static) if (rows * size > MANY)
    for (long row = 0; row < rows; row++) gate_one(size, gate_up + 2 * row * size, out + row * size);
}

/* The sums of four vectors. */
static inline __attribute__((always_inline)) Quarter sums(Half a, Half b, Half c, Half d)
{
#define FOLDED(v) (__builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7))
    Quarter e = FOLDED(a), f = FOLDED(b), g = FOLDED(c), h = FOLDED(d);
#undef FOLDED
    e = __builtin_shufflevector(e, f, 0, 4, 1, 5) + __builtin_shufflevector(e, f, 2, 6, 3, 7);
    g = __builtin_shufflevector(g, h, 0, 4, 1, 5) + __builtin_shufflevector(g, h, 2, 6, 3, 7);
    return __builtin_shufflevector(e, g, 0, 1, 4, 5) + __builtin_shufflevector(e, g, 2, 3, 6, 7);
}

/* OUTS outputs of `rows` rows, at most ROWS, of x: each the same sum in the same order, whatever rows stand beside it. */
static inline __attribute__((always_inline)) void multiply_rows(
    const int rows, long width, long outs, const float *x, const float *weight, const float *bias, const float *before,
    float *out)
{
    Half s00 = {0}, s01 = {0}, s02 = {0}, s03 = {0}, s10 = {0}, s11 = {0}, s12 = {0}, s13 = {0}, s20 = {0}, s21 = {0},
         s22 = {0}, s23 = {0}, a1 = {0}, a2 = {0};
    for (long k = 0; k < width; k += LANES / 2) {
        Half a0 = *(const Half *)(x + k), w = *(const Half *)(weight + k);
        if (rows > 1) a1 = *(const Half *)(x + width + k);
        if (rows > 2) a2 = *(const Half *)(x + 2 * width + k);
        s00 += a0 * w, s10 += a1 * w, s20 += a2 * w;
        w = *(const Half *)(weight + width + k), s01 += a0 * w, s11 += a1 * w, s21 += a2 * w;
        w = *(const Half *)(weight + 2 * width + k), s02 += a0 * w, s12 += a1 * w, s22 += a2 * w;
        w = *(const Half *)(weight + 3 * width + k), s03 += a0 * w, s13 += a1 * w, s23 += a2 * w;
    }
    Quarter found[ROWS] = {sums(s00, s01, s02, s03), sums(s10, s11, s12, s13), sums(s20, s21, s22, s23)};
    for (int row = 0; row < rows; row++) {
        if (bias) found[row] += *(const Quarter *)bias;
        if (before) found[row] += *(const Quarter *)(before + row * outs);
        *(Quarter *)(out + row * outs) = found[row];
    }
}

/* out [rows, outs] = before + x [rows, width] weight [outs, width]^T + bias; `before` (which may be `out`) and `bias` may be
 * NULL. width is a multiple of LANES, outs of OUTS. */
static inline __attribute__((always_inline)) void product(
    long rows, long width, long outs, const float *x, const float *weight, const float *bias, const float *before, float *out)
{
    long held = NEAR / width > ROWS ? NEAR / width / ROWS * ROWS : ROWS;
    for (long first = 0; first < rows; first += held) {
        long last = first + held < rows ? first + held : rows;
        for (long at = 0; at < outs; at += OUTS) {
            const float *w = weight + at * width, *b = bias ? bias + at : NULL;
            for (long row = first; row < last; row += ROWS) {
                const float *from = x + row * width, *added = before ? before + row * outs + at : NULL;
                float *to = out + row * outs + at;
                if (last - row >= 3) multiply_rows(3, width, outs, from, w, b, added, to);
                else if (last - row == 2) multiply_rows(2, width, outs, from, w, b, added, to);
                else multiply_rows(1, width, outs, from, w, b, added, to);
            }
        }
    }
}

/* A decoder's sizes, and what a layer has; q_norm, k_norm and all biases may be NULL. The same in step.py. */
typedef struct {
    long layers, hidden, inner, heads, key_value_heads, head_dim, capacity;
    const float *final_norm;
    float eps, scaling;
} Decoder;

typedef struct {
    const float *first_norm, *qkv, *qkv_bias, *q_norm, *k_norm, *o, *o_bias;
    const float *second_norm, *gate_up, *gate_up_bias, *down, *down_bias;
    float *keys, *values; /* as for `attend` */
    long window;
} Layer;

/* Takes x [rows, hidden] through all layers and the last norm, one row after the other. */
FOR_EACH_CPU static void step_rows(
    const Decoder *decoder, const Layer *layers, long rows, float *x, const float *cos, const float *sin,
    const long long *slots, const long long *positions, float *scratch)
{
    long hidden = decoder->hidden, inner = decoder->inner, size = decoder->head_dim;
    long heads = decoder->heads, shared = decoder->key_value_heads, width = (heads + 2 * shared) * size;
    float eps = decoder->eps, *normed = scratch, *qkv = normed + rows * hidden, *seen = qkv + rows * width;
    float *gate_up = seen + rows * heads * size;
    for (const Layer *layer = layers; layer < layers + decoder->layers; layer++) {
        Shape shape = {heads, shared, size, layer->window, decoder->scaling};
        for (long row = 0; row < rows; row++) norm_one(hidden, eps, x + row * hidden, layer->first_norm, normed + row * hidden);
        product(rows, hidden, width, normed, layer->qkv, layer->qkv_bias, NULL, qkv);
        for (long row = 0; row < rows; row++) {
            float *own = qkv + row * width;
            long position = positions[row];
            if (layer->q_norm)
                for (long head = 0; head < heads + shared; head++) {
                    float *one = own + head * size;
                    norm_one(size, eps, one, head < heads ? layer->q_norm : layer->k_norm, one);
                }
            for (long head = 0; head < shared; head++) {
                long place = (slots[row] * shared + head) * size * decoder->capacity;
                attend_one(&shape, head, own, cos + position * size, sin + position * size, layer->keys + place,
                           layer->values + place, position, seen + row * heads * size);
            }
        }
        product(rows, heads * size, hidden, seen, layer->o, layer->o_bias, x, x);
        for (long row = 0; row < rows; row++) norm_one(hidden, eps, x + row * hidden, layer->second_norm, normed + row * hidden);
        product(rows, hidden, 2 * inner, normed, layer->gate_up, layer->gate_up_bias, NULL, gate_up);
        for (long row = 0; row < rows; row++) gate_one(inner, gate_up + 2 * row * inner, gate_up + row * inner);
        product(rows, inner, hidden, gate_up, layer->down, layer->down_bias, x, x);
    }
    for (long row = 0; row < rows; row++) norm_one(hidden, eps, x + row * hidden, decoder->final_norm, x + row * hidden);
}

/* Tokens on their way through all layers: x [tokens, hidden] are their embeddings, and become what the last norm gives. Each
 * goes to its slot at its position, behind those that stand there. One thread at a time takes the tokens from starts[i] to
 * starts[i + 1] - 1, so that those of one row stand together and in order. `cos`, `sin` and `slots` as for `attend`;
 * `scratch` has hidden + (2 heads + 2 key_value_heads) head_dim + 2 inner numbers for each of the `most` tokens that are taken
 * together, for each of `threads`. hidden, inner and head_dim are multiples of LANES. A token's numbers depend on its row alone. */
void step(
    const Decoder *decoder, const Layer *layers, int threads, long portions, long most, const long long *starts, float *x,
    const float *cos, const float *sin, const long long *slots, const long long *positions, float *scratch)
{
    long room = decoder->hidden + 2 * (decoder->heads + decoder->key_value_heads) * decoder->head_dim + 2 * decoder->inner;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) if (portions > 1)
    for (long at = 0; at < portions; at++) {
        long first = starts[at];
        step_rows(decoder, layers, starts[at + 1] - first, x + first * decoder->hidden, cos, sin, slots + first,
                  positions + first, scratch + THREAD * most * room);
    }
}
