"""LoRA by peft: on every linear layer but the head, and the two token rows whole."""

from pathlib import Path
from typing import Any, List, Optional, Tuple

import torch
import torch.nn.functional as F
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.trainable_tokens.layer import TrainableTokensLayer
from transformers import PreTrainedModel

from ..data.shards import Meta
from ..errors import InputError


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


def open_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """The model with an adapter that was trained before. @raises InputError for a folder that has none that fits"""
    if not (folder / "adapter_config.json").is_file():
        raise InputError("invalid_request", f"--adapter {folder}: has no adapter_config.json")
    try:
        return PeftModel.from_pretrained(model, str(folder))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError("broken_checkpoint", f"--adapter {folder}: {reason}") from None


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
                result = _ReplacedColumns.apply(result, x, rows, base.weight, tokens)
        return result


class _ReplacedColumns(torch.autograd.Function):
    """In the head's result (x Wᵀ, W frozen) the columns of some tokens are x · rowᵀ. The gradient of the result is
    as wide as the vocabulary: it is handed on as it is, and what the replaced columns have no part in is taken off."""

    @staticmethod
    def forward(ctx: Any, result: torch.Tensor, x: torch.Tensor, rows: torch.Tensor, weight: torch.Tensor,
                tokens: List[int]) -> torch.Tensor:  # fmt: skip
        result[..., tokens] = F.linear(x, rows.to(x.dtype))
        ctx.mark_dirty(result)
        ctx.save_for_backward(x, rows, weight)
        ctx.tokens = tokens
        return result

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> Tuple[Optional[torch.Tensor], ...]:
        x, rows, weight = ctx.saved_tensors
        g = upstream[0]
        here = g[..., ctx.tokens]
        dx = here @ (rows - weight[ctx.tokens]).to(here.dtype)
        drows = here.flatten(0, -2).t() @ x.flatten(0, -2)
        return g, dx, drows.to(rows.dtype), None, None


class _LeanLora:
    def __init__(self, layer: LoraLinear) -> None:
        self.layer = layer

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        layer = self.layer
        base = layer.base_layer
        active = [name for name in layer.active_adapters if name in layer.lora_A]
        if layer.disable_adapters or layer.merged or not active:
            return base(x)
        first, *rest = ((layer.lora_dropout[n], layer.lora_A[n].weight, layer.lora_B[n].weight, layer.scaling[n]) for n in active)
        dropout, a, b, scaling = first
        plain = type(base) is torch.nn.Linear and not base.weight.requires_grad
        if plain and not (rest or (dropout.training and isinstance(dropout, torch.nn.Dropout))):
            return _AdaptedProduct.apply(x, base.weight, base.bias, a, b, scaling)
        result = base(x)
        for dropout, a, b, scaling in (first, *rest):
            low = F.linear(dropout(x), a.to(x.dtype))
            result = result + F.linear(low, (b * scaling).to(x.dtype))
        return result


class _AdaptedProduct(torch.autograd.Function):
    """x Wᵀ + bias + scaling · (x Aᵀ) Bᵀ with W frozen. The small products are added where the large one has been written:
    autograd would make and add tensors of the layer's width, three times per layer."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: Optional[torch.Tensor], a: torch.Tensor, b: torch.Tensor,
                scaling: float) -> torch.Tensor:  # fmt: skip
        rows = x.flatten(0, -2)
        a, b = a.to(x.dtype), (b * scaling).to(x.dtype)
        low = rows @ a.t()
        result = F.linear(rows, weight, bias).addmm_(low, b.t())
        ctx.save_for_backward(rows, weight, a, b, low)
        ctx.shape, ctx.scaling = x.shape, scaling
        return result.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *upstream: torch.Tensor) -> Tuple[Optional[torch.Tensor], ...]:
        rows, weight, a, b, low = ctx.saved_tensors
        g = upstream[0].flatten(0, -2)
        g_low = g @ b
        dx = (g @ weight).addmm_(g_low, a).view(ctx.shape) if ctx.needs_input_grad[0] else None
        return dx, None, None, (g_low.t() @ rows).float(), (g.t() @ low).float() * ctx.scaling, None


def _name_of(model: torch.nn.Module, module: torch.nn.Module) -> str:
    return next(name for name, other in model.named_modules() if other is module)
