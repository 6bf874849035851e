// The library as decoding/native/library.py calls it: plain C, errors as null or a non-zero code.
#include <exception>
#include <memory>

#include "decoder.h"
#include "likeliest.h"

namespace {

using stride::Decoder;

template <class Source>
std::unique_ptr<Decoder> made(const stride::Shape& shape, int format) {
  switch (format) {
    case 0:
      return std::make_unique<stride::FormattedDecoder<stride::Int8, Source>>(shape);
    case 1:
      return std::make_unique<stride::FormattedDecoder<stride::Bf16, Source>>(shape);
    default:
      return std::make_unique<stride::FormattedDecoder<stride::Fp32, Source>>(shape);
  }
}

template <class Action>
int failed(const Action& action) {
  try {
    action();
    return 0;
  } catch (const std::exception&) {  // memory is all that can run out
    return 1;
  }
}

}  // namespace

extern "C" {

int stride_ready() { return stride::tiles_granted(); }

// The instructions products are made of.
const char* stride_instructions() {
#if defined(STRIDE_AMX)
  return "AMX";
#elif defined(__AVX512VNNI__) && defined(__AVX512BF16__)
  return "AVX-512 VNNI and BF16";
#elif defined(__AVX512VNNI__)
  return "AVX-512 VNNI";
#else
  return "";
#endif
}

Decoder* stride_new(const stride::Shape* shape, int format, int half_source) {
  Decoder* decoder = nullptr;
  failed([&] {
    decoder = half_source ? made<stride::Bfloat16>(*shape, format).release()
                          : made<float>(*shape, format).release();
  });
  return decoder;
}

void stride_free(Decoder* decoder) { delete decoder; }

int stride_add_layer(Decoder* decoder, const stride::LayerSource* source) {
  return failed([&] { decoder->add_layer(*source); });
}

int stride_set_ends(Decoder* decoder, const void* embedding, const void* norm, const void* head,
                    const float* cosines, const float* sines) {
  return failed([&] { decoder->set_ends(embedding, norm, head, cosines, sines); });
}

// The `count` largest logits of every row, largest first; `count` is at most Largest::kMost.
void stride_likeliest(const float* logits, int rows, int vocabulary, int count, int32_t* tokens) {
  for (int row = 0; row < rows; ++row) {
    stride::likeliest(logits + static_cast<int64_t>(row) * vocabulary, vocabulary, count,
                      tokens + static_cast<int64_t>(row) * count);
  }
}

const double* stride_seconds(const Decoder* decoder) { return decoder->seconds(); }

int stride_forward(Decoder* decoder, const stride::Batch* batch, float* logits) {
  return failed([&] { decoder->forward(*batch, logits); });
}
}
