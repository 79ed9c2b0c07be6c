import type { TensorEntry } from '../../engine/engine-config.ts'
import type { StartupError } from '../../startup-error.ts'
import type { LocatedTensor, PlainDtype } from '../plain-tensor.ts'
import { broken, unsupported } from '../refusals.ts'
import { withRegularFile } from '../regular-file.ts'

const INPUTS_AT_A_TIME = 16 * 1024

type PartDtype = PlainDtype | 'I32'

/** The tensors of a folder, from which layers take their parts. */
export class StoredParts {
  private readonly files: readonly string[]
  private readonly tensors: ReadonlyMap<string, LocatedTensor>
  private readonly taken = new Set<string>()

  constructor(files: readonly string[], tensors: readonly LocatedTensor[]) {
    this.files = files
    this.tensors = new Map(tensors.map((tensor) => [tensor.name, tensor]))
  }

  has(name: string): boolean {
    return this.tensors.has(name)
  }

  isTaken(name: string): boolean {
    return this.taken.has(name)
  }

  /** The part `name` of the layer whose codes are `codes`, in one of these dtypes and shapes. */
  take(
    codes: LocatedTensor,
    name: string,
    dtypes: readonly PartDtype[],
    ...shapes: readonly number[][]
  ): TensorEntry {
    const tensor = this.tensors.get(name)
    if (!tensor) throw this.broken(codes, `the layer's tensor ${name} is missing`)
    const dtype = dtypes.find((served) => served === tensor.dtype)
    if (!dtype) {
      const where = `${this.where(tensor)}: dtype ${tensor.dtype}`
      throw unsupported(`${where} is not served here (${dtypes.join(', ')} is)`)
    }
    if (!shapes.some((shape) => shape.join() === tensor.shape.join())) {
      const wanted = [...new Set(shapes.map(described))].join(' or ')
      throw this.broken(tensor, `shape is ${described(tensor.shape)}, the layer asks for ${wanted}`)
    }
    this.taken.add(name)
    return { ...tensor, dtype, shape: tensor.shape.length > 0 ? tensor.shape : [1] }
  }

  /** Whether this many neighbouring inputs form each group. `groups` has the group of each input. */
  isInOrder({ file, offset, shape: [inputs = 0] }: TensorEntry, blockInputs: number): boolean {
    const words = Buffer.alloc(4 * Math.min(inputs, INPUTS_AT_A_TIME))
    const isInOrder = withRegularFile(this.files[file] ?? '', (source) => {
      for (let first = 0; first < inputs; first += INPUTS_AT_A_TIME) {
        const part = words.subarray(0, 4 * (inputs - first))
        if (source.readAt(part, offset + 4 * first) < part.length) return false
        for (let at = 0; at < part.length; at += 4) {
          if (part.readInt32LE(at) !== Math.floor((first + at / 4) / blockInputs)) return false
        }
      }
      return true
    })
    return isInOrder ?? false
  }

  broken(tensor: LocatedTensor, why: string): StartupError {
    return broken(`${this.where(tensor)}: ${why}`)
  }

  where({ file, name }: LocatedTensor): string {
    return `${this.files[file]}: ${name}`
  }
}

function described(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`
}
