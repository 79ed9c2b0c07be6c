// The JavaScript API: planMemory(config), load(config, onLoading), start(loaded, text, onEvents) and the
// engine object of gpu-node/engine/engine.ts. TypeScript validates; the addon only marshals.
#include <napi.h>

#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <vector>

#include "addon/config.h"
#include "common/error.h"
#include "engine/engine.h"
#include "engine/step_size.h"
#include "grammar/grammar_engine.h"
#include "model/llama.h"

namespace apar {
namespace {

constexpr size_t kEventWidth = 5;  // EVENT_WIDTH in engine-events.ts
static_assert(sizeof(Event) == kEventWidth * sizeof(int32_t));

Napi::Error to_js(Napi::Env env, const char* code, const std::string& message) {
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", Napi::String::New(env, code));
  return error;
}

// Runs `body` and converts a C++ exception to a JavaScript error with a code.
template <typename Body>
auto guarded(Napi::Env env, Body&& body) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (const Error& error) {
    throw to_js(env, to_string(error.code()), error.what());
  } catch (const std::bad_alloc&) {
    throw to_js(env, "out_of_memory", "out of memory");
  } catch (const std::exception& error) {
    throw to_js(env, "internal", error.what());
  }
}

struct Session;
void deliver(Napi::Env env, Napi::Function on_events, Session* session, void*);
using Wakeup = Napi::TypedThreadSafeFunction<Session, void, deliver>;

// One open engine and the thread-safe function that calls its JavaScript callback. Lives until the finalizer
// of `wakeup` has run.
struct Session {
  Wakeup wakeup;
  bool closed = false;  // `wakeup` was released; used on the JavaScript thread only
  std::unique_ptr<Engine> engine;
  std::string device;
  ModelFormat format = WeightFormat::f32;
  int32_t num_blocks = 0;
  TokenText text;
  std::vector<int32_t> eos;

  // Any thread may call it; the first call makes it.
  const GrammarEngine& grammar_engine(const std::string& folder) {
    const std::lock_guard lock(grammar_mutex);
    if (!grammars) grammars.emplace(folder, text, eos);
    return *grammars;
  }
  std::mutex grammar_mutex;
  std::optional<GrammarEngine> grammars;
};

// One wake-up delivers all queued events (one call per token would cost 20 times more).
void deliver(Napi::Env env, Napi::Function on_events, Session* session, void*) {
  if (static_cast<napi_env>(env) == nullptr || session->engine == nullptr) return;
  std::vector<Event> events;
  const std::string failure = session->engine->drain(events);
  if (events.empty()) return;
  auto rows = Napi::Int32Array::New(env, events.size() * kEventWidth);
  std::memcpy(rows.Data(), events.data(), events.size() * sizeof(Event));
  std::vector<napi_value> arguments{rows};
  if (!failure.empty()) arguments.push_back(Napi::String::New(env, failure));
  on_events.Call(arguments);
}

// Ends the engine off the JavaScript thread, then delivers its last events.
class CloseWorker : public Napi::AsyncWorker {
 public:
  CloseWorker(Napi::Env env, std::shared_ptr<Session> session, Napi::Function on_events)
      : Napi::AsyncWorker(env),
        deferred(Napi::Promise::Deferred::New(env)),
        session_(std::move(session)),
        on_events_(Napi::Persistent(on_events)) {}

  Napi::Promise::Deferred deferred;

 protected:
  void Execute() override { session_->engine->close(); }
  void OnOK() override {
    deliver(Env(), on_events_.Value(), session_.get(), nullptr);
    if (!session_->closed) {
      session_->closed = true;
      session_->wakeup.Release();
    }
    deferred.Resolve(Env().Undefined());
  }
  void OnError(const Napi::Error& error) override { deferred.Reject(error.Value()); }

 private:
  std::shared_ptr<Session> session_;
  Napi::FunctionReference on_events_;
};

// Makes a compiled grammar usable, off the JavaScript thread.
class GrammarWorker : public Napi::AsyncWorker {
 public:
  GrammarWorker(Napi::Env env, std::shared_ptr<Session> session, std::string folder, std::string compiled)
      : Napi::AsyncWorker(env),
        deferred(Napi::Promise::Deferred::New(env)),
        session_(std::move(session)),
        folder_(std::move(folder)),
        compiled_(std::move(compiled)) {}

  Napi::Promise::Deferred deferred;

 protected:
  void Execute() override {
    try {
      grammar_ = session_->grammar_engine(folder_).load(compiled_);
    } catch (const Error& error) {
      code_ = to_string(error.code());
      SetError(error.what());
    } catch (const std::bad_alloc&) {
      code_ = "out_of_memory";
      SetError("there is not enough memory for the grammar");
    } catch (const std::exception& error) {
      SetError(error.what());
    }
  }
  void OnOK() override {
    deferred.Resolve(
        Napi::External<GrammarHandle>::New(Env(), new GrammarHandle(std::move(grammar_)),
                                           [](Napi::Env, const GrammarHandle* handle) { delete handle; }));
  }
  void OnError(const Napi::Error& error) override {
    deferred.Reject(to_js(Env(), code_, error.Message()).Value());
  }

 private:
  std::shared_ptr<Session> session_;
  std::string folder_, compiled_;
  GrammarHandle grammar_;
  const char* code_ = "internal";
};

class EngineObject : public Napi::ObjectWrap<EngineObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "Engine",
        {InstanceMethod<&EngineObject::submit>("submit"), InstanceMethod<&EngineObject::abort>("abort"),
         InstanceMethod<&EngineObject::stats>("stats"), InstanceMethod<&EngineObject::close>("close"),
         InstanceMethod<&EngineObject::load_grammar>("loadGrammar"),
         InstanceAccessor<&EngineObject::info>("info")});
  }

  // Only start() can call this: it passes the session as an External.
  explicit EngineObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<EngineObject>(info) {
    if (info.Length() != 2 || !info[0].IsExternal() || !info[1].IsFunction()) {
      throw to_js(info.Env(), "invalid_config", "an Engine is created by start()");
    }
    session_ = *info[0].As<Napi::External<std::shared_ptr<Session>>>().Data();
    on_events_ = Napi::Persistent(info[1].As<Napi::Function>());
  }

 private:
  Engine& engine() { return *session_->engine; }

  void submit(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      if (!info[0].IsObject()) throw Error(ErrorCode::invalid_request, "submit takes a request object");
      engine().submit(read_request(info[0].As<Napi::Object>()));
    });
  }

  void abort(const Napi::CallbackInfo& info) {
    guarded(info.Env(), [&] {
      const int32_t request = id(info[0]);
      if (info[1].IsUndefined()) {
        engine().abort(request);
      } else {
        engine().abort_branch(request, id(info[1]));
      }
    });
  }

  static int32_t id(const Napi::Value& value) {
    if (!value.IsNumber()) throw Error(ErrorCode::invalid_request, "an id is not a number");
    // Int32Value() wraps around, so 2^32 would become 0, the root branch. -1 is no valid id.
    const int32_t number = value.As<Napi::Number>().Int32Value();
    return number == value.As<Napi::Number>().DoubleValue() ? number : -1;
  }

  Napi::Value stats(const Napi::CallbackInfo& info) {
    const DecoderStats stats = engine().stats();
    Napi::Object object = Napi::Object::New(info.Env());
    const auto set = [&](const char* name, auto value) { object.Set(name, static_cast<double>(value)); };
    set("runningRequests", stats.running_requests);
    set("waitingRequests", stats.waiting_requests);
    set("liveBranches", stats.live_branches);
    set("runningBranches", stats.running_branches);
    set("preemptedBranches", stats.preempted_branches);
    set("freeBlocks", stats.free_blocks);
    set("cachedBlocks", stats.cached_blocks);
    set("usedBlocks", stats.used_blocks);
    set("steps", stats.steps);
    set("generatedTokens", stats.generated_tokens);
    set("prefillTokens", stats.prefill_tokens);
    set("cachedPromptTokens", stats.cached_prompt_tokens);
    set("forks", stats.forks);
    set("forksRefused", stats.forks_refused);
    set("preemptions", stats.preemptions);
    const auto set_by_source = [&](const char* name, int64_t heads, int64_t ngrams) {
      Napi::Object counts = Napi::Object::New(info.Env());
      counts.Set("medusa", static_cast<double>(heads));
      counts.Set("ngram", static_cast<double>(ngrams));
      object.Set(name, counts);
    };
    set_by_source("draftedTokens", stats.drafted_by_heads, stats.drafted_by_ngrams);
    set_by_source("acceptedTokens", stats.accepted_of_heads, stats.accepted_of_ngrams);
    set("grammarMasks", stats.grammar_masks);
    set("grammarMaskSeconds", stats.grammar_mask_seconds);
    set("stepSeconds", stats.step_seconds);
    set("rowLimit", stats.row_limit);
    return object;
  }

  Napi::Value info(const Napi::CallbackInfo& info) {
    Napi::Object object = Napi::Object::New(info.Env());
    object.Set("device", session_->device);
    object.Set("dtype", to_string(session_->format.weights));
    object.Set("kvCacheDtype", to_string(session_->format.kv));
    object.Set("blockTokens", kBlockTokens);
    object.Set("numBlocks", session_->num_blocks);
    return object;
  }

  // loadGrammar(folder of the library, compiled grammar as bytes): a promise of what `grammar` of a request
  // is.
  Napi::Value load_grammar(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      if (!info[0].IsString() || !info[1].IsTypedArray() ||
          info[1].As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
        throw Error(ErrorCode::invalid_request, "loadGrammar takes a folder and bytes");
      const auto bytes = info[1].As<Napi::Uint8Array>();
      auto* worker = new GrammarWorker(info.Env(), session_, info[0].As<Napi::String>().Utf8Value(),
                                       std::string(bytes.Data(), bytes.Data() + bytes.ElementLength()));
      const Napi::Promise promise = worker->deferred.Promise();
      worker->Queue();
      return promise;
    });
  }

  Napi::Value close(const Napi::CallbackInfo& info) {
    auto* worker = new CloseWorker(info.Env(), session_, on_events_.Value());
    const Napi::Promise promise = worker->deferred.Promise();
    worker->Queue();
    return promise;
  }

  std::shared_ptr<Session> session_;
  Napi::FunctionReference on_events_;
};

struct AddonData {
  Napi::FunctionReference engine_class;
};

// Reports the loading progress to JavaScript from another thread, at most once per percent.
class LoadingCallback {
 public:
  LoadingCallback(Napi::Env env, Napi::Function on_loading)
      : call_(Napi::ThreadSafeFunction::New(env, on_loading, "apar loading", 0, 1)) {}
  ~LoadingCallback() { call_.Release(); }
  LoadingCallback(const LoadingCallback&) = delete;
  LoadingCallback& operator=(const LoadingCallback&) = delete;

  void operator()(uint64_t done, uint64_t total) {
    const uint64_t percent = done * 100 / total;
    if (percent == percent_) return;
    percent_ = percent;
    call_.NonBlockingCall([done, total](Napi::Env env, Napi::Function on_loading) {
      if (static_cast<napi_env>(env) == nullptr) return;
      on_loading.Call({Napi::Number::New(env, static_cast<double>(done)),
                       Napi::Number::New(env, static_cast<double>(total))});
    });
  }

 private:
  Napi::ThreadSafeFunction call_;
  uint64_t percent_ = 0;
};

// A model whose weights are loaded, for one engine.
struct LoadedModel {
  OpenConfig config;
  std::unique_ptr<Model> model;
  std::string device;
};

// Loads the weights off the JavaScript thread.
class LoadWorker : public Napi::AsyncWorker {
 public:
  // on_loading: a function or undefined.
  LoadWorker(Napi::Env env, OpenConfig config, Napi::Value on_loading)
      : Napi::AsyncWorker(env),
        deferred(Napi::Promise::Deferred::New(env)),
        loaded_(std::make_unique<LoadedModel>()) {
    loaded_->config = std::move(config);
    if (on_loading.IsFunction()) loading_.emplace(env, on_loading.As<Napi::Function>());
  }

  Napi::Promise::Deferred deferred;

 protected:
  void Execute() override {
    try {
      const auto fallback = std::make_shared<std::string>();
      const OpenConfig& config = loaded_->config;
      DecoderConfig& limits = loaded_->config.engine.decoder;
      // The plan of the memory knows the device, too, and has chosen already for who asked it.
      if (limits.max_step_tokens == 0)
        limits.max_step_tokens =
            step_tokens(0, limits.max_branches, is_on_host(config.device, config.devices));
      const StepRows rows = step_rows(limits.max_step_tokens, limits.max_branches);
      loaded_->model = open_llama(config.model, config.weights, config.format, config.num_blocks, rows,
                                  make_ops_on(config.device, config.threads, fallback, config.devices),
                                  [this](uint64_t done, uint64_t total) {
                                    if (loading_) (*loading_)(done, total);
                                  });
      loaded_->device = loaded_->model->device() + (fallback->empty() ? "" : " (" + *fallback + ")");
    } catch (const Error& error) {
      code_ = to_string(error.code());
      SetError(error.what());
    } catch (const std::bad_alloc&) {
      code_ = "out_of_memory";
      SetError("there is not enough memory for the engine's buffers");
    } catch (const std::exception& error) {
      code_ = "internal";
      SetError(error.what());
    }
  }

  void OnOK() override {
    deferred.Resolve(Napi::External<LoadedModel>::New(
        Env(), loaded_.release(), [](Napi::Env, const LoadedModel* loaded) { delete loaded; }));
  }

  void OnError(const Napi::Error& error) override {
    deferred.Reject(to_js(Env(), code_, error.Message()).Value());
  }

 private:
  std::unique_ptr<LoadedModel> loaded_;
  std::optional<LoadingCallback> loading_;
  const char* code_ = "internal";
};

Napi::Value load(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    if (!info[0].IsObject()) throw Error(ErrorCode::invalid_config, "load takes a configuration");
    auto* worker = new LoadWorker(env, read_config(info[0].As<Napi::Object>()), info[1]);
    const Napi::Promise promise = worker->deferred.Promise();
    worker->Queue();
    return promise;
  });
}

// Starts the engine of a loaded model, once. `text` comes as late as this, so that a tokenizer is read while
// the weights are.
Napi::Value start(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    Napi::Env env = info.Env();
    if (!info[0].IsExternal() || !info[1].IsObject() || !info[2].IsFunction()) {
      throw Error(ErrorCode::invalid_config, "start takes a loaded model, its text and a function");
    }
    LoadedModel& loaded = *info[0].As<Napi::External<LoadedModel>>().Data();
    if (loaded.model == nullptr) throw Error(ErrorCode::invalid_config, "the model has an engine");
    const auto on_events = info[2].As<Napi::Function>();
    const auto session = std::make_shared<Session>();
    session->device = loaded.device;
    session->format = loaded.config.format;
    session->num_blocks = loaded.model->num_blocks();
    session->text = read_text(info[1].As<Napi::Object>());
    session->eos = loaded.config.engine.decoder.tokens.eos;
    EngineConfig config = std::move(loaded.config.engine);
    config.decoder.text = session->text;
    session->wakeup = Wakeup::New(
        env, on_events, "apar events", 0, 1, session.get(),
        [](Napi::Env, const std::shared_ptr<Session>* owner, Session*) { delete owner; },
        new std::shared_ptr<Session>(session));
    try {
      session->engine =
          std::make_unique<Engine>(std::move(loaded.model), std::move(config),
                                   [events = session.get()] { events->wakeup.NonBlockingCall(); });
    } catch (...) {
      session->wakeup.Release();
      throw;
    }
    // If the process exits without close(), the engine's thread must not call into a destroyed environment.
    env.AddCleanupHook(
        [](std::weak_ptr<Session>* weak) {
          const std::unique_ptr<std::weak_ptr<Session>> owner(weak);
          if (const auto open = owner->lock()) open->engine->close();
        },
        new std::weak_ptr<Session>(session));
    auto held = session;
    const auto external = Napi::External<std::shared_ptr<Session>>::New(env, &held);
    return env.GetInstanceData<AddonData>()->engine_class.New({external, on_events});
  });
}

// Reads no weights, so it returns at once; opening a CUDA device may take a second.
Napi::Value plan(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    if (!info[0].IsObject()) throw Error(ErrorCode::invalid_config, "planMemory takes a configuration");
    const OpenConfig config = read_config(info[0].As<Napi::Object>());
    const ModelMemory model = {config.model, config.weights, config.format,
                               config.engine.decoder.max_step_tokens, config.engine.decoder.max_branches};
    Napi::Object object = Napi::Object::New(env);
    MemoryPlan plan;
    try {
      plan = plan_memory(memory_of(config.device, config.threads, config.devices), model, config.pool);
    } catch (const DoesNotFit& refusal) {
      plan = refusal.plan();
      object.Set("refusal", refusal.what());
    }
    const auto set = [&](const char* name, auto value) { object.Set(name, static_cast<double>(value)); };
    object.Set("device", plan.on_host ? "cpu" : "cuda");
    object.Set("freeSource", plan.free.source);
    set("devices", plan.devices);
    set("maxStepTokens", plan.max_step_tokens);
    set("freeBytes", plan.free.bytes);
    set("keptFreeBytes", plan.kept_free_bytes);
    set("weightBytes", plan.weight_bytes);
    set("workspaceBytes", plan.workspace_bytes);
    set("blockBytes", plan.block_bytes);
    set("kvBytes", plan.kv_bytes());
    set("numBlocks", plan.num_blocks);
    return object;
  });
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto* data = new AddonData{Napi::Persistent(EngineObject::define(env))};
  env.SetInstanceData(data);
  exports.Set("planMemory", Napi::Function::New<plan>(env, "planMemory"));
  exports.Set("load", Napi::Function::New<load>(env, "load"));
  exports.Set("start", Napi::Function::New<start>(env, "start"));
  return exports;
}

}  // namespace
}  // namespace apar

Napi::Object init_apar(Napi::Env env, Napi::Object exports) {
  return apar::init(env, exports);
}
NODE_API_MODULE(apar, init_apar)
