"""LoRA by peft: on every linear layer but the head, and the two token rows whole."""

from typing import List, Optional

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.trainable_tokens.layer import TrainableTokensLayer
from transformers import PreTrainedModel

from ..data.shards import Meta


def add_adapter(model: PreTrainedModel, meta: Meta, rank: int, alpha: float, dropout: float, base: Optional[str]) -> PeftModel:
    """The model with adapters in f32. `base` is what adapter_config.json names as the model to add it to."""
    tokens = [meta.fork, meta.child]
    modules = {"embed": _name_of(model, model.get_input_embeddings())}
    if model.get_output_embeddings().weight is not model.get_input_embeddings().weight:
        modules["head"] = _name_of(model, model.get_output_embeddings())
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules="all-linear",
        trainable_token_indices={name.rsplit(".", 1)[-1]: tokens for name in modules.values()},
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
    )
    adapted = get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = base
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    compute_less(adapted)
    return adapted


def token_parameters(model: torch.nn.Module) -> List[torch.nn.Parameter]:
    return [p for name, p in model.named_parameters() if p.requires_grad and "trainable_tokens_delta" in name]


def compute_less(model: torch.nn.Module) -> None:
    """The same functions as peft's with less work. peft copies the whole embedding to put two rows into it, and its
    backward pass makes the gradient of all rows; and it computes LoRA in the adapter's own type, f32."""
    for module in model.modules():
        if isinstance(module, TrainableTokensLayer):
            module.forward = _LeanRows(module)
        elif type(module) is LoraLinear and not module.lora_variant:
            module.forward = _LeanLora(module)


class _LeanRows:
    def __init__(self, layer: TrainableTokensLayer) -> None:
        self.layer = layer

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        layer = self.layer
        base = layer.base_layer
        result = base(x)
        if layer.disable_adapters or layer.merged:
            return result
        for name in layer.active_adapters:
            rows = layer.trainable_tokens_delta[name].to(result.dtype)
            tokens = layer.token_indices[name]
            if isinstance(base, torch.nn.Embedding):
                scale = layer._get_embed_scale()
                rows = rows if scale is None else rows * scale.to(rows.dtype)
                for token, row in zip(tokens, rows):
                    result = torch.where((x == token)[..., None], row, result)
            else:
                index = torch.tensor(tokens, device=x.device)
                result = result.index_copy(-1, index, torch.nn.functional.linear(x, rows.to(x.dtype)).to(result.dtype))
        return result


class _LeanLora:
    def __init__(self, layer: LoraLinear) -> None:
        self.layer = layer

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        layer = self.layer
        result = layer.base_layer(x)
        if layer.disable_adapters or layer.merged:
            return result
        for name in layer.active_adapters:
            if name in layer.lora_A:
                low = torch.nn.functional.linear(layer.lora_dropout[name](x), layer.lora_A[name].weight.to(x.dtype))
                high = layer.lora_B[name].weight * layer.scaling[name]
                result = result + torch.nn.functional.linear(low, high.to(x.dtype))
        return result


def _name_of(model: torch.nn.Module, module: torch.nn.Module) -> str:
    return next(name for name, other in model.named_modules() if other is module)
