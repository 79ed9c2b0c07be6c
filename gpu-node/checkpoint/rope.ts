// The frequencies of rotary embeddings with and without scaling, in the steps and roundings of transformers 5
// (modeling_rope_utils.py): tensors are f32 there, all other numbers are doubles.

import type { RotaryEmbedding } from '../engine/engine-config.ts'

/** How a model stretches its rotary embeddings to a longer context. */
export type RopeScaling =
  | { readonly type: 'default' }
  /** Divides all positions. */
  | { readonly type: 'linear'; readonly factor: number }
  /** Llama 3.1: divides the frequencies of long wavelengths only. */
  | {
      readonly type: 'llama3'
      readonly factor: number
      readonly lowFreqFactor: number
      readonly highFreqFactor: number
      readonly originalContext: number
    }
  /** YaRN (arXiv 2309.00071). */
  | {
      readonly type: 'yarn'
      readonly factor: number
      readonly originalContext: number
      readonly betaFast: number
      readonly betaSlow: number
      /** Whether the range of blended frequencies begins and ends at whole pairs. */
      readonly truncate: boolean
      /** Factor of cosines and sines. */
      readonly attentionFactor: number
    }

/** Far above any model; a bound on the number of frequencies. */
export const MAX_HEAD_DIM = 8192

export const YARN_BETA_FAST = 32
export const YARN_BETA_SLOW = 1

/** Embeddings that rotate the first `rotated` (even, at most {@link MAX_HEAD_DIM}) elements of each head. */
export function rotaryEmbedding(theta: number, rotated: number, scaling: RopeScaling): RotaryEmbedding {
  const wavelengths = Array.from({ length: rotated / 2 }, (_, pair) =>
    f32(f32(theta) ** f32((2 * pair) / rotated)),
  )
  const frequencies = wavelengths.map((length) => f32(1 / length))
  switch (scaling.type) {
    case 'default':
      return { theta, frequencies, scale: 1 }
    case 'linear':
      return { theta, frequencies: frequencies.map((each) => f32(each / f32(scaling.factor))), scale: 1 }
    case 'llama3':
      return { theta, frequencies: frequencies.map((each) => llama3Frequency(each, scaling)), scale: 1 }
    case 'yarn':
      return {
        theta,
        frequencies: yarnFrequencies(wavelengths, theta, scaling),
        scale: scaling.attentionFactor,
      }
  }
}

type Scaling<Type extends RopeScaling['type']> = Extract<RopeScaling, { type: Type }>

const f32 = Math.fround
/** A number divided by a tensor: torch multiplies it by the reciprocal. */
const overTensor = (number: number, tensor: number) => f32(f32(1 / tensor) * f32(number))

function llama3Frequency(
  frequency: number,
  { factor, lowFreqFactor, highFreqFactor, originalContext }: Scaling<'llama3'>,
): number {
  const wavelength = overTensor(2 * Math.PI, frequency)
  if (wavelength < f32(originalContext / highFreqFactor)) return frequency
  const divided = f32(frequency / f32(factor))
  if (wavelength > f32(originalContext / lowFreqFactor)) return divided
  const rotations = overTensor(originalContext, wavelength)
  const kept = f32(f32(rotations - f32(lowFreqFactor)) / f32(highFreqFactor - lowFreqFactor))
  return f32(f32(f32(f32(1 - kept) * frequency) / f32(factor)) + f32(kept * frequency))
}

/** Frequencies below `low` pairs stay, those above `high` are divided, and between them both are blended. */
function yarnFrequencies(wavelengths: readonly number[], theta: number, scaling: Scaling<'yarn'>): number[] {
  const { factor, originalContext, betaFast, betaSlow, truncate } = scaling
  const rotated = 2 * wavelengths.length
  const pairOf = (rotations: number) =>
    (rotated * Math.log(originalContext / (rotations * 2 * Math.PI))) / (2 * Math.log(theta))
  const whole = (round: (pair: number) => number, pair: number) => (truncate ? round(pair) : pair)
  const low = Math.max(whole(Math.floor, pairOf(betaFast)), 0)
  const end = Math.min(whole(Math.ceil, pairOf(betaSlow)), rotated - 1)
  const high = low === end ? end + 0.001 : end
  return wavelengths.map((length, pair) => {
    const ramp = Math.min(Math.max(f32(f32(pair - f32(low)) / f32(high - low)), 0), 1)
    const kept = f32(1 - ramp)
    const divided = f32(1 / f32(f32(factor) * length))
    return f32(f32(divided * f32(1 - kept)) + f32(f32(1 / length) * kept))
  })
}

/** YaRN's factor of cosines and sines where the checkpoint does not give it. */
export function yarnAttentionFactor(
  factor: number,
  mscale?: number | null,
  mscaleAllDim?: number | null,
): number {
  const grown = (by: number) => (factor <= 1 ? 1 : 0.1 * by * Math.log(factor) + 1)
  return mscale && mscaleAllDim ? grown(mscale) / grown(mscaleAllDim) : grown(1)
}
