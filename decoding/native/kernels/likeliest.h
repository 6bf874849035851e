// The largest logits of a row: what token recycling keeps of it.
#pragma once

#include <limits>

#include "vectors.h"

namespace stride {

// The largest of what it is offered, largest first; of equal ones those that came first.
class Largest {
 public:
  Largest(int32_t* tokens, int count) : tokens_(tokens), count_(count) {
    for (int place = 0; place < count; ++place) {
      tokens_[place] = place;
      values_[place] = -std::numeric_limits<float>::infinity();
    }
  }

  static constexpr int kMost = 64;

  float least() const { return values_[count_ - 1]; }

  void offer(int32_t token, float value) {
    if (!(value > least())) return;
    int place = count_ - 1;
    for (; place > 0 && value > values_[place - 1]; --place) {
      values_[place] = values_[place - 1];
      tokens_[place] = tokens_[place - 1];
    }
    values_[place] = value;
    tokens_[place] = token;
  }

 private:
  int32_t* tokens_;
  int count_;
  float values_[kMost];
};

// Looks at 64 logits at once: hardly ever is one of them among the largest.
inline void likeliest(const float* logits, int vocabulary, int count, int32_t* tokens) {
  constexpr int kStretch = 4 * kLanes;
  Largest largest(tokens, count);
  int token = 0;
  for (; token + kStretch <= vocabulary; token += kStretch) {
    Floats best = load(logits + token);
    for (int next = kLanes; next < kStretch; next += kLanes) {
      best = larger(best, load(logits + token + next));
    }
    if (!any(best > largest.least())) continue;
    for (int each = token; each < token + kStretch; ++each) largest.offer(each, logits[each]);
  }
  for (; token < vocabulary; ++token) largest.offer(token, logits[token]);
}

}  // namespace stride
