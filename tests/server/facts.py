"""What the engines say of themselves that are none."""

from decoding.report import Cost, EngineInfo

MODEL = "tiny/model"
CONTEXT = 200


def engine_info(vocabulary_size: int = 260, context_length: int = CONTEXT) -> EngineInfo:
    return EngineInfo(
        model=MODEL,
        architecture="LlamaForCausalLM",
        dtype="float32",
        device="cpu",
        threads=1,
        parameters=1000,
        vocabulary_size=vocabulary_size,
        context_length=context_length,
        cache_tokens=10 * context_length,
        cache_bytes=1,
        strategies=("autoregressive",),
        eos_token_ids=(258,),
        bit_exact=True,
        exactness="bit-exact",
        load_seconds=0.1,
        resident_bytes=600 << 20,
        kernels="Stride's own (AMX)",
        cost=Cost(by_rows={1: 0.005, 8: 0.006}, per_key=1e-6, per_pair=1e-7, median_error=0.04),
    )
