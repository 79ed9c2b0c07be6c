"""Others' load and evaluation tools, as their users run them, against a running apar (APAR_URL, APAR_KEY).

guidellm and lm-eval run as commands; what they write is checked. They find no hub: tokenizer and tasks are local.
"""

import json
import os
import subprocess
import sys
import traceback
import urllib.request
from pathlib import Path

URL = os.environ["APAR_URL"]
KEY = os.environ["APAR_KEY"]
TOKENIZER = os.environ["APAR_TOKENIZER"]
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(Path("hub").absolute())}
LONGEST = 120


def run(*arguments):
    env = {**os.environ, **OFFLINE, "OPENAI_API_KEY": KEY}
    ended = subprocess.run(
        [sys.executable, "-m", *arguments], env=env, capture_output=True, text=True, timeout=LONGEST
    )
    assert ended.returncode == 0, f"{arguments[0]} ended with {ended.returncode}\n{ended.stdout}\n{ended.stderr}"


def ask(path, body):
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    request = urllib.request.Request(URL + path, json.dumps({"model": "demo", **body}).encode(), headers)
    with urllib.request.urlopen(request, timeout=LONGEST) as response:
        return json.load(response)


def guidellm(name, request_format, profile, rates):
    path = Path(f"guidellm-{name}.json").absolute()
    backend = f"kind=openai_http,target={URL},model=demo,api_key={KEY},request_format={request_format}"
    run(
        *("guidellm", "run", "--backend", backend, "--profile", profile),
        *("--constraint", "kind=max_requests,count=6", "--tokenizer", f"kind=hf_auto,model={TOKENIZER}"),
        *("--data", "kind=synthetic_text,prompt_tokens=48,output_tokens=12"),
        *("--output", f"kind=json,path={path}", "--disable-console"),
    )
    benchmarks = json.loads(path.read_text())["benchmarks"]
    assert len(benchmarks) == rates, f"{len(benchmarks)} rates"
    for benchmark in benchmarks:
        requests, metrics = benchmark["requests"], benchmark["metrics"]
        assert requests["errored"] == [], requests["errored"][:1]
        assert len(requests["successful"]) == 6
        # ignore_eos and the limit, as the usage of the server's answers has them.
        counts = metrics["output_token_count"]["successful"]
        assert counts["min"] == counts["max"] == 12, counts
        assert metrics["prompt_token_count"]["successful"]["min"] >= 48
        for figure in ("time_to_first_token_ms", "inter_token_latency_ms", "request_latency"):
            assert metrics[figure]["successful"]["count"] > 0 and metrics[figure]["successful"]["max"] > 0, figure


def guidellm_chat():
    guidellm("chat", "/v1/chat/completions", '{"kind": "concurrent", "streams": [1, 3]}', 2)


def guidellm_completions():
    guidellm("completions", "/v1/completions", "kind=constant,rate=20", 1)


def guidellm_responses():
    guidellm("responses", "/v1/responses", "kind=synchronous", 1)


# After the first choice of the first two, the model's most likely token ends the answer.
CHOICES = [
    {"question": "How do I list files", "choices": ["?", " now?", "."], "answer": 0},
    {"question": "USER: How do I use tar", "choices": ["?", "!", " today"], "answer": 0},
    {"question": "To copy a file, use", "choices": [" cp", " blue cheese"], "answer": 0},
    {"question": "To list the files of a directory, use", "choices": [" ls", " rain", " tar xf"], "answer": 0},
]
TEXTS = [
    {"text": "Archive files with tar. Extract an archive into a directory, or list its contents."},
    {"text": "ls lists the files of a directory, and cp copies them."},
]
QUESTIONS = [{"question": f"How do I {what}?", "answer": ""} for what in ("use tar", "list files", "copy a file")]


def task(name, documents, config):
    folder = Path("tasks")
    folder.mkdir(exist_ok=True)
    data = folder / f"{name}.jsonl"
    data.write_text("".join(f"{json.dumps(document)}\n" for document in documents))
    source = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data.absolute())}}}
    # JSON is YAML.
    (folder / f"{name}.yaml").write_text(json.dumps({"task": name, **source, "test_split": "test", **config}))
    return name


def tasks():
    choices = task(
        "commands",
        CHOICES,
        {
            **{"output_type": "multiple_choice", "doc_to_text": "{{question}}", "doc_to_choice": "{{choices}}"},
            **{"doc_to_target": "{{answer}}", "target_delimiter": "", "metric_list": [{"metric": "acc"}]},
        },
    )
    texts = task(
        "sentences",
        TEXTS,
        {
            **{"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"},
            "metric_list": [{"metric": "bits_per_byte"}],
        },
    )
    answers = task(
        "answers",
        QUESTIONS,
        {
            **{"output_type": "generate_until", "doc_to_text": "{{question}}", "doc_to_target": "{{answer}}"},
            "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 16, "do_sample": False},
            "metric_list": [{"metric": "exact_match"}],
        },
    )
    return choices, texts, answers


def lm_eval(name, model, arguments, names, *more):
    out = Path(f"lm-eval-{name}").absolute()
    run(
        *("lm_eval", "run", "--model", model, "--model_args", f"model=demo,{arguments}", *more),
        *("--tasks", ",".join(names), "--include_path", str(Path("tasks").absolute())),
        *("--output_path", str(out), "--log_samples"),
    )
    (results,) = out.glob("**/results_*.json")
    samples = {}
    for each in names:
        (path,) = out.glob(f"**/samples_{each}_*.jsonl")
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        samples[each] = sorted(lines, key=lambda line: line["doc_id"])
    return json.loads(results.read_text())["results"], samples


def tokens(text):
    return ask("/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]


def scored(ids):
    """Log-probabilities of the ids, the first of which has none, and how many tokens were generated behind them."""
    answer = ask("/v1/completions", {"prompt": ids, "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0})
    return answer["choices"][0]["logprobs"]["token_logprobs"][: len(ids)], answer["usage"]["completion_tokens"]


def near(one, other):
    return abs(one - other) < 0.05 * max(1, abs(other))


def lm_eval_scores():
    """With token ids, as lm-eval does by default, in batches of 4, two of them at a time."""
    choices, texts, _ = tasks()
    completions = f"base_url={URL}/v1/completions,tokenizer={TOKENIZER},tokenizer_backend=huggingface,max_length=1024"
    results, samples = lm_eval(
        "scores", "local-completions", f"{completions},num_concurrent=2", (choices, texts), "--batch_size", "4"
    )
    ended = 0
    for document, sample in zip(CHOICES, samples[choices], strict=True):
        context = tokens(document["question"])
        for choice, ((said, _),) in zip(document["choices"], sample["resps"], strict=True):
            rows, generated = scored(tokens(document["question"] + choice))
            ended += generated == 0
            assert near(float(said), sum(rows[len(context) :])), (document, choice, said)
    assert ended > 0, "no choice is followed by the end of an answer"
    assert 0 < results[choices]["acc,none"] <= 1
    nats = sum(sum(scored([1, *tokens(text["text"])])[0][1:]) for text in TEXTS)
    bits = -nats / 0.6931471805599453 / sum(len(text["text"].encode()) for text in TEXTS)
    assert near(results[texts]["bits_per_byte,none"], bits), (results[texts], bits)


def expected_answer(path, body, text):
    greedy = {"max_tokens": 16, "temperature": 0, "stop": ["\n\n"], "seed": 1234}
    return text(ask(path, {**body, **greedy})["choices"][0])


def lm_eval_answers():
    """Prompts as texts, in batches; the server's own tokenizer counts them."""
    _, _, answers = tasks()
    completions = f"base_url={URL}/v1/completions,auth_token={KEY},tokenized_requests=False"
    _, samples = lm_eval("answers", "local-completions", completions, (answers,), "--batch_size", "2")
    for document, sample in zip(QUESTIONS, samples[answers], strict=True):
        want = expected_answer("/v1/completions", {"prompt": document["question"]}, lambda choice: choice["text"])
        assert sample["resps"] == [[want]], (sample["resps"], want)


def lm_eval_chat():
    _, _, answers = tasks()
    chat = f"base_url={URL}/v1/chat/completions,num_concurrent=2"
    _, samples = lm_eval("chat", "local-chat-completions", chat, (answers,), "--apply_chat_template")
    for document, sample in zip(QUESTIONS, samples[answers], strict=True):
        messages = [{"role": "user", "content": document["question"]}]
        want = expected_answer(
            "/v1/chat/completions", {"messages": messages}, lambda choice: choice["message"]["content"]
        )
        assert want and sample["resps"] == [[want]], (sample["resps"], want)


TRIED = (
    guidellm_chat,
    guidellm_completions,
    guidellm_responses,
    lm_eval_scores,
    lm_eval_answers,
    lm_eval_chat,
)

failed = 0
for tried in TRIED:
    try:
        tried()
        print(f"ok   {tried.__name__}", flush=True)
    except Exception:
        failed += 1
        print(f"FAIL {tried.__name__}", flush=True)
        traceback.print_exc()
sys.exit(1 if failed else 0)
