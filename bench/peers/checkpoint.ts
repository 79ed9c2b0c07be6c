import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { knownModels } from '../../cli/models/known.ts'
import { isKnownAndMissing, resolveModel } from '../../cli/models/resolve.ts'
import { trainingPython } from '../../cli/train/environment/environment.ts'
import { showEnvironmentProgress } from '../../cli/train/environment/progress.ts'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { readModelFiles } from '../../training/data/model/base-model.ts'
import { writeConfig, writeTokenizer } from '../../training/data/model/write-model.ts'
import { environmentFolder, peersFolder } from '../peer/python/folders.mjs'
import { randomModel } from '../serving/random-model.ts'
import type { PeerDType } from './side.ts'

const WRITER = join(packageRoot, 'bench/peer/python/write_checkpoint.py')
/** OpenVINO's names: it computes fp16 weights in bf16 where the processor can. */
const OPENVINO_FORMAT: Record<PeerDType, string> = { bf16: 'fp16', int8: 'int8' }
const run = promisify(execFile)

/** The weights of all sides: of random ones by their size, or of a model by its name. @throws Error or UserError */
export function checkpointPath(model: string, models = knownModels()): string {
  const random = randomModel(model)
  if (random !== undefined) return random
  if (isKnownAndMissing(model, models)) throw new Error(`${model} is not here: apar model pull ${model}`)
  const { path, adapter } = resolveModel(model, models)
  if (adapter !== undefined)
    throw new Error(`--model: ${model} has an adapter, which no side would load: name its base`)
  return path
}

/**
 * The folder with the model of a GGUF file or a folder as transformers has it, which vLLM and OpenVINO's export read;
 * made once, unless it is such a folder. int8: as compressed-tensors writes it, which is the int8 that vLLM computes
 * with on CPUs.
 */
export async function huggingFaceFolder(model: string, dtype: PeerDType): Promise<string> {
  if (dtype === 'bf16' && statSync(model).isDirectory()) return model
  const folder = join(peersFolder, 'models', `${digest(model)}-${dtype}`)
  return await madeOnce(folder, async (making) => {
    const base = readModelFiles(model)
    await writeConfig(base, making, (config) => config)
    await writeTokenizer(base.text, base.tokenizerConfig, making)
    const generation = `${JSON.stringify(base.generationConfig, null, 2)}\n`
    await writeFile(join(making, 'generation_config.json'), generation)
    const python = await trainingPython({ progress: showEnvironmentProgress() })
    await runPython(python, [WRITER, model, making, dtype], {
      PYTHONPATH: join(packageRoot, 'training/torch'),
    })
  })
}

/** The same model, exported for OpenVINO by optimum-intel; made once for each version of it. */
export async function openVinoFolder(model: string, dtype: PeerDType): Promise<string> {
  const environment = environmentFolder('openvino', packageRoot)
  const folder = join(environment, 'models', `${digest(model)}-${dtype}`)
  return await madeOnce(folder, async (making) => {
    const checkpoint = await huggingFaceFolder(model, 'bf16')
    const command = ['-m', 'optimum.commands.optimum_cli', 'export', 'openvino', '--model', checkpoint]
    const options = ['--task', 'text-generation-with-past', '--weight-format', OPENVINO_FORMAT[dtype]]
    await runPython(join(environment, 'bin/python'), [...command, ...options, making], {
      HF_HUB_OFFLINE: '1',
    })
  })
}

async function madeOnce(folder: string, make: (making: string) => Promise<void>): Promise<string> {
  if (existsSync(folder)) return folder
  console.error(`peers: making ${folder}`)
  const making = `${folder}.${process.pid}`
  try {
    await mkdir(making, { recursive: true })
    await make(making)
    await rename(making, folder)
  } finally {
    await rm(making, { recursive: true, force: true })
  }
  return folder
}

async function runPython(
  python: string,
  args: readonly string[],
  env: Record<string, string>,
): Promise<void> {
  await run(python, args, { env: { ...process.env, ...env }, maxBuffer: 2 ** 26 })
}

function digest(model: string): string {
  const hash = createHash('sha256')
  if (statSync(model).isDirectory())
    for (const name of readdirSync(model).sort()) {
      const { size, mtimeMs } = statSync(join(model, name))
      hash.update(JSON.stringify([name, size, mtimeMs]))
    }
  else hash.update(readFileSync(model))
  return hash.digest('hex').slice(0, 12)
}
