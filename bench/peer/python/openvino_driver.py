"""OpenVINO GenAI's continuous batching in this process: one JSON command per input line, one JSON object per output line.
{"command": "load", "folder": ..., "threads": ...}                           -> {}
{"command": "run", "streams": ..., "requests": [{"prompt": ..., "tokens": ...}, ...]}
  -> {"seconds": ..., "answers": [{"prompt_tokens": ..., "output_tokens": ..., "ttft_ms": ..., "text": ...}, ...]}
So many requests are in flight at a time; the next one begins when one ends, as with a client of a server. Anything that is
wrong                                                                        -> {"error": ...}"""

import json
import os
import sys
import time
from typing import Any, Dict, List

import openvino
import openvino_genai

CACHE_GB = 2


class Driver:
    def __init__(self) -> None:
        self.pipeline: Any = None
        self.tokenizer: Any = None
        self.requests = 0

    def load(self, folder: str, threads: int) -> Dict[str, Any]:
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = CACHE_GB
        scheduler.enable_prefix_caching = False
        self.pipeline = openvino_genai.ContinuousBatchingPipeline(
            folder, scheduler, "CPU", {"INFERENCE_NUM_THREADS": threads}
        )
        self.tokenizer = self.pipeline.get_tokenizer()
        return {}

    def run(self, streams: int, requests: List[Dict[str, Any]]) -> Dict[str, Any]:
        answers: List[Dict[str, Any]] = [{} for _ in requests]
        waiting = list(enumerate(requests))[::-1]
        running: Dict[int, Running] = {}
        begun = time.perf_counter()
        while waiting or running:
            while waiting and len(running) < streams:
                index, request = waiting.pop()
                running[index] = self.start(request)
            self.pipeline.step()
            now = time.perf_counter()
            for index, request in list(running.items()):
                request.read(now)
                if not request.is_running():
                    answers[index] = request.answer(self.tokenizer)
                    del running[index]
        return {"seconds": time.perf_counter() - begun, "answers": answers}

    def start(self, request: Dict[str, Any]) -> "Running":
        sent = time.perf_counter()
        chat = [{"role": "user", "content": request["prompt"]}]
        text = self.tokenizer.apply_chat_template(chat, add_generation_prompt=True)
        ids = self.tokenizer.encode(text, add_special_tokens=False).input_ids
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = request["tokens"]
        config.ignore_eos = True
        config.do_sample = False
        self.requests += 1
        return Running(self.pipeline.add_request(self.requests, ids, config), ids.shape[-1], sent)


class Running:
    """A request in flight."""

    def __init__(self, handle: Any, prompt_tokens: int, sent: float) -> None:
        self.handle = handle
        self.prompt_tokens = prompt_tokens
        self.sent = sent
        self.ttft_ms = 0.0
        self.tokens: List[int] = []

    def read(self, now: float) -> None:
        while self.handle.can_read():
            for output in self.handle.read().values():
                if not self.tokens:
                    self.ttft_ms = 1000 * (now - self.sent)
                self.tokens.extend(output.generated_ids)

    def is_running(self) -> bool:
        return self.handle.get_status() == openvino_genai.GenerationStatus.RUNNING

    def answer(self, tokenizer: Any) -> Dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": len(self.tokens),
            "ttft_ms": self.ttft_ms,
            "text": tokenizer.decode(self.tokens),
        }


def main() -> None:
    # The libraries may print: what they say is no answer.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    driver = Driver()
    commands = {"load": driver.load, "run": driver.run}
    print(f"openvino {openvino.__version__}", file=sys.stderr)
    for line in sys.stdin:
        try:
            fields = json.loads(line)
            answer = commands[fields.pop("command")](**fields)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
