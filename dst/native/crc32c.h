/*
 * Little-endian numbers, and CRC-32C of bytes.
 *
 * The processor makes it where it can (SSE4.2), otherwise it comes out of tables. The instruction takes eight bytes
 * and three cycles, but three of them may be under way: so a long row of bytes is done as three rows side by side, and
 * the checksum of the first is carried over the length of the second and so on, by a table.
 *
 * make_tables must have been called before anything else.
 */

#ifndef DST_CRC32C_H
#define DST_CRC32C_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define HAS_PROCESSOR_CRC 1
#include <nmmintrin.h>
#else
#define HAS_PROCESSOR_CRC 0
#endif

/* -- numbers in little-endian order, at any address -- */

static inline uint32_t load32(const unsigned char *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline uint64_t load64(const unsigned char *at)
{
    return (uint64_t)load32(at) | (uint64_t)load32(at + 4) << 32;
}

static inline void store16(unsigned char *at, uint16_t value)
{
    at[0] = (unsigned char)value;
    at[1] = (unsigned char)(value >> 8);
}

static inline void store32(unsigned char *at, uint32_t value)
{
    store16(at, (uint16_t)value);
    store16(at + 2, (uint16_t)(value >> 16));
}

static inline void store64(unsigned char *at, uint64_t value)
{
    store32(at, (uint32_t)value);
    store32(at + 4, (uint32_t)(value >> 32));
}

/* -- CRC-32C -- */

#define POLYNOMIAL 0x82F63B78u /* reflected */
#define ROW_BYTES 1360         /* three of them, and sixteen bytes, are a block of 4 KiB */

/* bytes[k][b]: what the byte b does to the checksum when k more bytes come after it. */
static uint32_t bytes_table[8][256];
/* rows[k][b]: what the k-th byte b of a checksum becomes when ROW_BYTES zeroes come after it. */
static uint32_t rows_table[4][256];

static uint32_t crc_by_table(uint32_t crc, const unsigned char *data, size_t length)
{
    while (length >= 8) {
        uint32_t low = crc ^ load32(data), high = load32(data + 4);
        crc = bytes_table[7][low & 255] ^ bytes_table[6][low >> 8 & 255] ^ bytes_table[5][low >> 16 & 255] ^
              bytes_table[4][low >> 24] ^ bytes_table[3][high & 255] ^ bytes_table[2][high >> 8 & 255] ^
              bytes_table[1][high >> 16 & 255] ^ bytes_table[0][high >> 24];
        data += 8;
        length -= 8;
    }
    while (length--)
        crc = crc >> 8 ^ bytes_table[0][(crc ^ *data++) & 255];
    return crc;
}

static void make_tables(void)
{
    static const unsigned char zeroes[ROW_BYTES];

    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ POLYNOMIAL : crc >> 1;
        bytes_table[0][byte] = crc;
    }
    for (int after = 1; after < 8; after++)
        for (int byte = 0; byte < 256; byte++) {
            uint32_t crc = bytes_table[after - 1][byte];
            bytes_table[after][byte] = crc >> 8 ^ bytes_table[0][crc & 255];
        }
    /* To append zeroes is linear: it is enough to know what becomes of each bit. */
    for (int place = 0; place < 4; place++)
        for (int bit = 0; bit < 8; bit++) {
            uint32_t carried = crc_by_table((uint32_t)1 << (8 * place + bit), zeroes, ROW_BYTES);
            for (int byte = 1 << bit; byte < 1 << (bit + 1); byte++)
                rows_table[place][byte] = rows_table[place][byte - (1 << bit)] ^ carried;
        }
}

#if HAS_PROCESSOR_CRC
static inline uint64_t over_a_row(uint64_t crc)
{
    return rows_table[0][crc & 255] ^ rows_table[1][crc >> 8 & 255] ^ rows_table[2][crc >> 16 & 255] ^
           rows_table[3][crc >> 24 & 255];
}

__attribute__((target("sse4.2"))) static uint32_t crc_by_processor(uint32_t start, const unsigned char *data,
                                                                   size_t length)
{
    uint64_t crc = start, word;

    while (length >= 3 * ROW_BYTES) {
        uint64_t second = 0, third = 0, word2, word3;
        for (size_t at = 0; at < ROW_BYTES; at += 8) {
            memcpy(&word, data + at, 8);
            memcpy(&word2, data + at + ROW_BYTES, 8);
            memcpy(&word3, data + at + 2 * ROW_BYTES, 8);
            crc = _mm_crc32_u64(crc, word);
            second = _mm_crc32_u64(second, word2);
            third = _mm_crc32_u64(third, word3);
        }
        crc = over_a_row(over_a_row(crc) ^ second) ^ third;
        data += 3 * ROW_BYTES;
        length -= 3 * ROW_BYTES;
    }
    while (length >= 8) {
        memcpy(&word, data, 8);
        crc = _mm_crc32_u64(crc, word);
        data += 8;
        length -= 8;
    }
    while (length--)
        crc = _mm_crc32_u8((uint32_t)crc, *data++);
    return (uint32_t)crc;
}
#endif

#endif
