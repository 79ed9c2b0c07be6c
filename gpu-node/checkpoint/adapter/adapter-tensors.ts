import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { broken, unsupported } from '../refusals.ts'
import { readSafetensors, type StoredTensor } from '../safetensors.ts'

const TENSORS = 'adapter_model.safetensors'
const TORCH = 'adapter_model.bin'
const PREFIX = 'base_model.model.'
/** Name of an adapter in a training process, which some trainers leave in the names of tensors. */
const ADAPTER_NAME = /\.default(?=\.|$)/

/** What an adapter's file has for one module of the base. */
export interface ModuleTensors {
  /** Replaces the base's weight: a module in `modules_to_save`, or an embedding that was resized. */
  whole?: StoredTensor
  /** The base's weight, stored again because it was resized. Without `whole` it is what the rest applies to. */
  base?: StoredTensor
  /** LoRA factors, of a linear layer or of an embedding. */
  a?: StoredTensor
  b?: StoredTensor
  embeddingA?: StoredTensor
  embeddingB?: StoredTensor
  /** New values, not differences, of the rows of trained tokens. */
  rows?: StoredTensor
}

/** By the end of a tensor's name, the longest first. */
const PARTS: readonly (readonly [string, keyof ModuleTensors | undefined])[] = [
  ['.lora_A.weight', 'a'],
  ['.lora_B.weight', 'b'],
  ['.lora_embedding_A', 'embeddingA'],
  ['.lora_embedding_B', 'embeddingB'],
  ['.token_adapter.trainable_tokens_delta', 'rows'],
  ['.token_adapter.base_layer.weight', 'base'],
  ['.base_layer.weight', 'base'],
  // Of a module that is saved too.
  ['.original_module.weight', undefined],
  ['.modules_to_save.weight', 'whole'],
  ['.weight', 'whole'],
]

/** The tensors of an adapter's folder by module. @throws StartupError that names file and tensor. */
export function readAdapterTensors(folder: string): { path: string; modules: Map<string, ModuleTensors> } {
  const path = join(folder, TENSORS)
  if (!existsSync(path) && existsSync(join(folder, TORCH))) {
    const what = `a torch file is not merged: save the adapter as ${TENSORS}`
    throw unsupported(`${join(folder, TORCH)}: ${what}`)
  }
  const modules = new Map<string, ModuleTensors>()
  for (const tensor of readSafetensors(path)) {
    const name = tensor.name.replace(ADAPTER_NAME, '')
    const ending = PARTS.find(([end]) => name.endsWith(end))
    if (!ending || !name.startsWith(PREFIX)) {
      throw unsupported(`${path}: ${tensor.name}: is not merged`)
    }
    const [end, part] = ending
    if (part === undefined) continue
    const module = name.slice(PREFIX.length, -end.length)
    const tensors = modules.get(module) ?? {}
    modules.set(module, tensors)
    // peft stores a saved embedding under two names.
    if (tensors[part] && part !== 'whole') throw broken(`${path}: ${tensor.name}: ${module} has two of these`)
    tensors[part] = tensor
  }
  return { path, modules }
}
