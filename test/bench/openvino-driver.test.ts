import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { openDriver } from '../../bench/peers/openvino.ts'
import { hasTrainingPython, TRAINING_PYTHON } from '../support/training-python.ts'

/** The part of openvino_genai that the driver uses: a token a step for each request. It prints, as the real one may. */
const FAKE = `
class GenerationConfig: pass
class SchedulerConfig: pass
class GenerationStatus: RUNNING, FINISHED = 0, 1

class Output:
    def __init__(self, id): self.generated_ids = [id]

class Handle:
    def __init__(self, first, config): self.first, self.config, self.made, self.unread = first, config, 0, []
    def can_read(self): return len(self.unread) > 0
    def read(self): return {0: Output(self.unread.pop(0))}
    def get_status(self): return GenerationStatus.RUNNING if self.made < self.config.max_new_tokens else GenerationStatus.FINISHED

class Ids:
    def __init__(self, text): self.shape, self.first = [1, len(text)], ord(text[0])

class Encoded:
    def __init__(self, text): self.input_ids = Ids(text)

class Tokenizer:
    def apply_chat_template(self, chat, add_generation_prompt): return chat[0]["content"] + ":"
    def encode(self, text, add_special_tokens): return Encoded(text)
    def decode(self, ids): return "".join(chr(id) for id in ids)

class ContinuousBatchingPipeline:
    def __init__(self, folder, scheduler, device, options):
        if folder == "gone": raise RuntimeError("no model there")
        assert not scheduler.enable_prefix_caching and options == {"INFERENCE_NUM_THREADS": 2}
        self.handles, self.most = [], 0
        print("loading")
    def get_tokenizer(self): return Tokenizer()
    def add_request(self, id, ids, config):
        assert config.ignore_eos and not config.do_sample
        self.handles.append(Handle(ids.first, config))
        return self.handles[-1]
    def step(self):
        running = [handle for handle in self.handles if handle.get_status() == GenerationStatus.RUNNING]
        for handle in running:
            handle.unread.append(ord("0") + len(running))
            handle.made += 1
`

describe.skipIf(!hasTrainingPython)('openvino_driver.py', () => {
  const modules = mkdtempSync(join(tmpdir(), 'apar-openvino-'))
  afterAll(() => rmSync(modules, { recursive: true }))
  writeFileSync(join(modules, 'openvino.py'), '__version__ = "fake"\n')
  writeFileSync(join(modules, 'openvino_genai.py'), FAKE)
  const open = (folder: string) => {
    const args = [`PYTHONPATH=${modules}`, TRAINING_PYTHON, 'bench/peer/python/openvino_driver.py']
    return openDriver('env', args, { folder, threads: 2 })
  }

  test('keeps so many requests in flight, and begins the next when one has ended', async () => {
    const side = await open('model')
    const asked = [3, 1, 2].map((tokens, index) => ({ prompt: 'Hello'.slice(index), tokens }))
    const { answers } = await side.run(asked, 2)
    // The text of an answer says how many requests each step had: the third one takes the place of the second.
    expect(answers.map(({ text }) => text)).toEqual(['222', '2', '22'])
    expect(answers.map(({ prompt_tokens }) => prompt_tokens)).toEqual([6, 5, 4])
    expect(answers.map(({ output_tokens }) => output_tokens)).toEqual([3, 1, 2])
    expect((await side.run(asked, 1)).answers.map(({ text }) => text)).toEqual(['111', '1', '11'])
    await side.close()
  })

  test('tells what is wrong with a model', async () => {
    await expect(open('gone')).rejects.toThrow('load: RuntimeError: no model there')
  })
})
