import type { ModelShape } from '../../../gpu-node/engine/engine-config.ts'
import { countLora, countParameters } from './parameters.ts'

export interface Work {
  readonly lora: number | undefined
  readonly checkpointActivations: boolean
  /** The base judges the text, too: with LoRA. */
  readonly distills: boolean
  /** How many tokens a token attends to, in the mean. */
  readonly meanContext: number
}

/** Floating-point operations for one token: forward, backward, and what is computed again. */
export function flopsPerToken(shape: ModelShape, work: Work): number {
  const { lora, checkpointActivations, distills, meanContext } = work
  const { products, embedding } = countParameters(shape)
  const forward = 2 * products
  // Gradients of inputs, and of the weights that are trained.
  const backward = lora === undefined ? 2 * forward : forward + 4 * countLora(shape, lora)
  const again = checkpointActivations ? 2 * (products - embedding) : 0
  // Scores and their product with the values; twice that in the backward pass.
  const passes = 3 + Number(distills)
  const attention = passes * 4 * shape.numLayers * shape.numHeads * shape.headDim * meanContext
  return forward * (1 + Number(distills)) + backward + again + attention
}

/** Assumed: how much of the rate of a large product training reaches. */
export const SHARE_OF_PRODUCTS = { cpu: 0.2, cuda: 0.4 }
/** Of several GPUs, for exchanging gradients or weights. */
const SHARE_OF_EACH = 0.9

/** Tokens a second, when products of matrices run at `productRate` operations a second on each of `processes`. */
export function tokensPerSecond(
  flops: number,
  productRate: number,
  device: keyof typeof SHARE_OF_PRODUCTS,
  processes: number,
): number {
  const scaling = processes === 1 ? 1 : processes * SHARE_OF_EACH
  return (productRate * SHARE_OF_PRODUCTS[device] * scaling) / flops
}
