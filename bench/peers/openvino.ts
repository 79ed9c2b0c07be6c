import { join } from 'node:path'
import { z } from 'zod'
import { packageRoot } from '../../gpu-node/package-root.ts'
import { LineProcess } from '../peer/line-process.ts'
import { environmentFolder } from '../peer/python/folders.mjs'
import { Run, type Side } from './side.ts'

const DRIVER = join(packageRoot, 'bench/peer/python/openvino_driver.py')

/** OpenVINO GenAI's continuous batching in a process of its own, without a server. */
export async function openOpenVino(model: string, threads: number): Promise<Side> {
  const python = join(environmentFolder('openvino', packageRoot), 'bin/python')
  return await openDriver(python, [DRIVER], { folder: model, threads })
}

/** A program that speaks as openvino_driver.py does. */
export async function openDriver(
  command: string,
  args: readonly string[],
  model: { folder: string; threads: number },
): Promise<Side> {
  const driver = new LineProcess(command, args)
  try {
    await driver.send({ command: 'load', ...model }, z.strictObject({}))
  } catch (error) {
    await driver.close()
    throw error
  }
  return {
    name: 'OpenVINO',
    run: (requests, streams) => driver.send({ command: 'run', streams, requests }, Run),
    close: () => driver.close(),
  }
}
