import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { findAllocator } from '../../../cli/train/allocator.ts'
import { runTrainer, shellLine, trainerArguments } from '../../../cli/train/run-trainer.ts'
import { TracebackFilter } from '../../../cli/train/traceback-filter.ts'

describe('what the trainer writes', () => {
  function read(text: string) {
    const filter = new TracebackFilter()
    const shown = text.split('\n').filter((line) => filter.shows(line))
    return { shown, reason: filter.reason }
  }

  test('is shown, but for a traceback, whose last line is the reason', () => {
    const text = `loading
Traceback (most recent call last):
  File "sft.py", line 3, in run
    raise KeyError("x")
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "sft.py", line 5, in run
ValueError: a second one`
    expect(read(text)).toEqual({
      shown: ['loading', '', ''],
      reason: { code: undefined, sentence: 'ValueError: a second one' },
    })
  })

  test('of a refusal is its code and sentence', () => {
    expect(read('invalid_request: DATA/train: has no examples')).toEqual({
      shown: [],
      reason: { code: 'invalid_request', sentence: 'DATA/train: has no examples' },
    })
    const usage =
      'usage: apar_train sft [-h] --data DATA\napar_train sft: error: argument --lr: invalid float value'
    expect(read(usage)).toEqual({
      shown: [],
      reason: { code: undefined, sentence: 'argument --lr: invalid float value' },
    })
  })

  test('of several processes is the reason of the first one that failed, and nothing of torchrun', () => {
    const text = `W1128 22:10:01.000000 99 torch/distributed/run.py:803] *****
[rank1]: Traceback (most recent call last):
[rank1]:   File "sft.py", line 3
[rank1]: RuntimeError: shapes differ
E1128 22:10:03.000000 99 torch/distributed/elastic/multiprocessing/api.py:980] failed (exitcode: 1)
Traceback (most recent call last):
  File "run.py", line 1
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
apar_train FAILED`
    expect(read(text)).toEqual({
      shown: [],
      reason: { code: undefined, sentence: 'RuntimeError: shapes differ' },
    })
  })

  test('of a lack of memory has advice', () => {
    const text = 'Traceback (most recent call last):\n  x\ntorch.OutOfMemoryError: CUDA out of memory. Tried'
    expect(read(text).reason?.sentence).toMatch(/^the memory is not enough: try less --pack-tokens/)
  })
})

test('several processes run under torchrun, and the printed line runs in a shell', () => {
  expect(trainerArguments(['sft', '--out', 'a b'], 1)).toEqual(['-m', 'apar_train', 'sft', '--out', 'a b'])
  const args = trainerArguments(['sft', '--out', "it's"], 2)
  expect(args.slice(0, 5)).toEqual(['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2'])
  expect(shellLine('/x/python', args)).toMatch(
    /^PYTHONPATH=\S+\/training\/torch \/x\/python -m torch\.distributed\.run .* -m -- apar_train sft --out 'it'\\''s'$/,
  )
})

test('an allocator is found as the loader lists it, the best first', () => {
  const listed = [
    "1042 libs found in cache `/etc/ld.so.cache'",
    '\tlibtcmalloc_minimal_debug.so.4 (libc6,x86-64) => /lib/libtcmalloc_minimal_debug.so.4',
    '\tlibjemalloc.so.2 (libc6,x86-64) => /lib/x86_64-linux-gnu/libjemalloc.so.2',
  ]
  expect(findAllocator(listed)).toBe('/lib/x86_64-linux-gnu/libjemalloc.so.2')
  const better = '\tlibtcmalloc_minimal.so.4 (libc6,x86-64) => /lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4'
  expect(findAllocator([...listed, better])).toBe('/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4')
  expect(findAllocator(['garbage'])).toBeUndefined()
  expect(shellLine('/x/python', ['-m', 'y'], '/lib/a.so')).toMatch(/^LD_PRELOAD=\/lib\/a\.so PYTHONPATH=/)
})

describe('running it', () => {
  let root: string
  let python: string

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'apar-trainer-'))
    python = join(root, 'python')
    vi.spyOn(console, 'error').mockImplementation(() => {})
  })

  afterEach(() => {
    vi.restoreAllMocks()
    rmSync(root, { recursive: true })
  })

  async function run(script: string) {
    writeFileSync(python, `#!/bin/sh\n${script}\n`)
    chmodSync(python, 0o755)
    return await runTrainer(python, ['-m', 'apar_train'], { debug: false })
  }

  test('gives it the sources', async () => {
    expect(await run(`test -f "\${PYTHONPATH%%:*}/apar_train/__main__.py"`)).toBe('done')
  })

  test('that fails is one sentence', async () => {
    await expect(run('echo "invalid_request: --data: too short" >&2; exit 2')).rejects.toMatchObject({
      code: 'invalid_request',
      message: '--data: too short',
    })
    await expect(run('echo "broken_checkpoint: F: no tensors" >&2; exit 2')).rejects.toMatchObject({
      code: 'broken_checkpoint',
    })
    await expect(run('exit 3')).rejects.toMatchObject({
      code: 'training_failed',
      message: 'the trainer ended with exit code 3',
    })
    await expect(run('kill -9 $$')).rejects.toMatchObject({ message: /perhaps because the memory was full/ })
  })

  test('ends it at a signal, which it may answer in its own time', async () => {
    const [started, saved] = [join(root, 'started'), join(root, 'saved')]
    const trap = `trap 'sleep 0.3; touch ${saved}; exit 0' INT`
    const running = run(`${trap}; touch ${started}; while true; do sleep 0.05; done`)
    while (!existsSync(started)) await sleep(20)
    process.emit('SIGINT')
    expect(await running).toBe('stopped')
    expect(existsSync(saved)).toBe(true)
  })

  test('that was stopped by a signal of its own has not ended', async () => {
    expect(await run('exit 130')).toBe('stopped')
  })

  test('ends it at once at a second signal', async () => {
    const started = join(root, 'started')
    const running = run(`trap 'echo $$ > ${started}' INT; touch ${started}; while true; do sleep 0.05; done`)
    while (!existsSync(started)) await sleep(20)
    process.emit('SIGINT')
    while (readFileSync(started, 'utf8') === '') await sleep(20)
    process.emit('SIGINT')
    expect(await running).toBe('stopped')
  })
})
