/* What a decoding step does between its matrix products, on a CPU in float32: norms, gates, and attention for rows that
 * each have a length of their own.
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
#include <string.h>

#define HEADS 4   /* query heads at a time */
#define LANES 16  /* positions, or numbers of a value, at a time */
#define CHUNK 256 /* positions whose scores are held at a time */
#define WIDEST 256 /* head_dim at most */
#define NEVER -1e30f
#define MANY 8192 /* numbers that are worth a second thread */

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
