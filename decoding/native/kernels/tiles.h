// The processor's matrix unit (AMX): eight tiles of up to 16 rows of 64 bytes.
#pragma once

#if defined(__AMX_INT8__) && defined(__AMX_BF16__)
#define STRIDE_AMX 1
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

namespace stride {

// The system lends the tiles' state to a process that asks for it.
inline bool tiles_granted() {
  constexpr int kRequest = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}

// Tiles 0-3 hold sums, 4 and 5 the rows they are of, 6 and 7 the weights.
inline void shape_tiles(int rows) {
  struct alignas(64) {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
  } config;
  for (int tile = 0; tile < 8; ++tile) {
    config.bytes[tile] = 64;
    config.rows[tile] = tile < 6 ? rows : 16;
  }
  _tile_loadconfig(&config);
}

inline void release_tiles() { _tile_release(); }

}  // namespace stride

#else
namespace stride {
inline bool tiles_granted() { return true; }
inline void shape_tiles(int) {}
inline void release_tiles() {}
}  // namespace stride
#endif
