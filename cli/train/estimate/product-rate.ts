import { z } from 'zod'
import type { ModelShape } from '../../../gpu-node/engine/engine-config.ts'
import { UserError } from '../../explain.ts'
import { TRAINER_FOLDER } from '../environment/packages.ts'
import { runPython } from '../environment/python.ts'

const ProductRate = z.object({
  device: z.enum(['cpu', 'cuda']),
  name: z.string(),
  threads: z.int(),
  dtype: z.enum(['bfloat16', 'float32']),
  /** Operations a second. */
  flops: z.number().positive(),
})
export type ProductRate = z.infer<typeof ProductRate>

/**
 * Measures a product of the model's own sizes on this machine's GPU, or on its CPU. Takes some seconds.
 * @param dtype by default what the trainer would choose there
 */
export async function measureProductRate(
  python: string,
  shape: Pick<ModelShape, 'hiddenSize' | 'intermediateSize'>,
  { device, dtype }: { device?: 'cpu'; dtype?: ProductRate['dtype'] | undefined } = {},
): Promise<ProductRate> {
  const sizes = [shape.hiddenSize, shape.intermediateSize].map(String)
  const args = ['-m', 'apar_train.product_rate', ...sizes, ...(dtype ? [dtype] : [])]
  const env = { PYTHONPATH: TRAINER_FOLDER, ...(device && { CUDA_VISIBLE_DEVICES: '' }) }
  const { code, output, errors } = await runPython(python, args, { env })
  if (code === 0) return ProductRate.parse(JSON.parse(output))
  const reason = errors.trim().split('\n').at(-1) ?? ''
  throw new UserError('training_failed', `a product could not be measured: ${reason}`)
}
