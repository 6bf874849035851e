// The threads of one forward: they split work and wait for each other.
#pragma once

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>

namespace stride {

// Spins for a while, then lets others run: a busy neighbour must not cost a scheduler's quantum
// at every layer.
class Barrier {
 public:
  void wait(int threads) {
    const int turn = turn_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
      arrived_.store(0, std::memory_order_relaxed);
      turn_.store(turn + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; turn_.load(std::memory_order_acquire) == turn; ++spins) {
      if (spins < kSpins) {
        __builtin_ia32_pause();
      } else {
        sched_yield();
      }
    }
  }

 private:
  static constexpr int kSpins = 2000;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<int> turn_{0};
};

// What a forward's time goes to, in the order decoding/native/library.py names it.
enum Phase { kEncode, kQkv, kCache, kAttention, kOutput, kGateUp, kDown, kHead, kPhases };

// The time one thread has spent in each phase, waiting for the others included.
class Stopwatch {
 public:
  void start() { last_ = std::chrono::steady_clock::now(); }
  void stop(Phase phase) {
    const auto now = std::chrono::steady_clock::now();
    seconds[phase] += std::chrono::duration<double>(now - last_).count();
    last_ = now;
  }
  double seconds[kPhases] = {};

 private:
  std::chrono::steady_clock::time_point last_;
};

struct Range {
  int begin, end;
};

// One thread's view of the team.
struct Member {
  int index, threads;
  Barrier* barrier;
  Stopwatch* stopwatch;

  // Waits until everybody has finished the phase.
  void finish(Phase phase) const {
    if (threads > 1) barrier->wait(threads);
    if (index == 0) stopwatch->stop(phase);
  }

  // This thread's share of `count` things.
  Range share(int count) const {
    const int most = (count + threads - 1) / threads;
    return {std::min(count, index * most), std::min(count, (index + 1) * most)};
  }
};

}  // namespace stride
