"""Any OpenAI-compatible server as an engine: vLLM's, transformers', SGLang's, llama.cpp's.

Prompts go to /v1/completions as the text that we rendered, so that the model sees what the other engines show it and cut
thoughts can be continued. Servers that only chat get the question; their cut thoughts stay without a forced answer.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any, Literal

from thinkedit.chat import Chat
from thinkedit.edit import Edit
from thinkedit.engines.base import Ability, Biases, Completion, Request, Sampling, as_queue
from thinkedit.errors import ThinkEditError, UsageError

RETRIES = 8  # with exponential back-off: a server that restarts within half a minute is waited for
FIRST_RETRIES = 3  # as long as nothing has been answered: a wrong address is more likely than a restart
HELLO = "What is 1 + 1?"
SECONDS = 3600.0  # for one answer
# What vLLM and SGLang understand and others ignore or refuse: all of the text, tokenized as it stands, with its ids.
EXACT = {"skip_special_tokens": False, "spaces_between_special_tokens": False, "add_special_tokens": False}
MOST_TOKENS = 1 << 31  # more than any model has; what is beyond is no token id
# The client takes any body for an answer, however deep: what is wrong with it shows where it is read.
BODY_ERRORS = (AttributeError, LookupError, TypeError, ValueError, OverflowError, RecursionError)
ADDRESS = " Is the address right (it mostly ends in /v1)?"
NO_STEERING = (
    "An OpenAI-compatible server cannot be steered from outside. Use --engine vllm (or transformers), or write a steered "
    "model with `thinkedit export --steer ALPHA` and serve that. `thinkedit run` goes without: --no-steering --no-scan."
)


class OpenAIEngine:
    """Asks `base_url`. `served` names the model there (None: the only one), `served_edited` the edited one beside it."""

    def __init__(
        self,
        base_url: str,
        chat: Chat,
        served: str | None = None,
        served_edited: str | None = None,
        concurrency: int = 64,
        context: int | None = None,
        abilities: frozenset[Ability] = frozenset(),
        say: Callable[[str], None] = lambda _line: None,
    ) -> None:
        try:
            from openai import AsyncOpenAI, Timeout
        except ImportError:
            raise ThinkEditError('--engine openai needs the client: pip install "thinkedit[openai]".') from None
        if "steering" in abilities:
            raise UsageError(NO_STEERING)
        if not base_url.startswith(("http://", "https://")):
            raise UsageError(f"--base-url {base_url} is no address; http://localhost:8000/v1 is one.")
        self.base_url, self.chat, self.concurrency, self.say = base_url, chat, concurrency, say
        self.abilities: frozenset[Ability] = frozenset(("editing",)) if served_edited else frozenset()
        self.client = AsyncOpenAI(
            base_url=base_url,
            api_key=os.environ.get("OPENAI_API_KEY") or "none",
            max_retries=FIRST_RETRIES,
            timeout=Timeout(SECONDS, connect=10.0),
        )
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.context = context or 1 << 30
        self._extra: dict[str, Any] = dict(EXACT)
        self._drop_bos = False
        self.continues = True  # until it turns out otherwise
        try:
            self.served = self.model = served or self._find_model()
            self.served_edited = served_edited
            self.continues = self._probe()
            if served_edited:
                self._wait(self._one_token(served_edited, self._extra))
        except BaseException:
            self.close()
            raise
        self.client.max_retries = RETRIES

    # ------------------------------------------------------------------------------------------- steer, edit, close

    def steer(self, biases: Biases | None) -> None:
        if biases:
            raise UsageError(NO_STEERING)

    def apply(self, edit: Edit | None) -> None:
        """Asks the edited model that the server has beside the base. What it serves there is taken on trust."""
        if edit is None:
            self.model = self.served
            return
        if self.served_edited is None:
            raise UsageError(
                "The server cannot be edited from outside. Serve the edited model or the adapter (docs/serving.md) and "
                "name it with --served-edited."
            )
        self.model = self.served_edited

    def close(self) -> None:
        if self.loop.is_running():
            asyncio.run_coroutine_threadsafe(self.client.close(), self.loop).result(timeout=5)
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join(timeout=5)

    # ---------------------------------------------------------------------------------------------------- generate

    def generate(self, requests: Iterable[Request], sampling: Sampling) -> Iterator[Completion]:
        pending = as_queue(requests)
        finished: SimpleQueue[Future[Completion]] = SimpleQueue()
        at_work: set[Future[Completion]] = set()
        try:
            while pending or at_work:
                while pending and len(at_work) < self.concurrency:
                    future = asyncio.run_coroutine_threadsafe(self._complete(pending.popleft(), sampling), self.loop)
                    at_work.add(future)
                    future.add_done_callback(finished.put)
                done = finished.get()
                at_work.remove(done)
                yield done.result()
        finally:
            for future in at_work:
                future.cancel()

    async def _complete(self, request: Request, sampling: Sampling) -> Completion:
        room = self.context - len(request.prompt_ids)
        settings: dict[str, Any] = {
            "model": self.model,
            "max_tokens": min(request.max_tokens or sampling.max_tokens, room),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": request.seed & 0x7FFFFFFF,  # some servers keep 32 bits
        }
        extra = dict(self._extra)
        if sampling.top_k:
            extra["top_k"] = sampling.top_k
        if sampling.repetition_penalty != 1:
            extra["repetition_penalty"] = sampling.repetition_penalty
        if sampling.ignore_eos:
            extra["ignore_eos"] = True
        with self._one_message():
            choice = (await self._ask(request.prompt_ids, request.question, extra, **settings)).choices[0]
            ids = getattr(choice, "token_ids", None)
            if not ids:
                text = choice.text if self.continues else self._written(request, choice.message, choice.finish_reason)
                ids = self.chat.encode(text or "")
            reason: Literal["stop", "length"] = "length" if choice.finish_reason == "length" else "stop"
            ids = [int(token) for token in ids]
            if min(ids, default=0) < 0 or max(ids, default=0) >= (self.chat.vocabulary or MOST_TOKENS):
                raise ValueError("token ids that the model does not have")
            return Completion(request.key, ids, reason)

    async def _ask(self, prompt_ids: Sequence[int], question: str | None, extra: dict[str, Any], **settings: Any) -> Any:
        """What the server makes of a prompt, or of a question where it only chats."""
        create: Any
        if self.continues:
            create = self.client.completions.create
            return await create(prompt=self.chat.decode(prompt_ids[self._drop_bos :]), extra_body=extra, **settings)
        create = self.client.chat.completions.create
        return await create(messages=[{"role": "user", "content": question}], extra_body=extra, **settings)

    def _written(self, request: Request, message: Any, reason: str | None) -> str:
        """What the model wrote, tags and all, out of a message whose thought may stand in a field of its own."""
        thought = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
        content = message.content or ""
        if not thought:
            return content
        opening, closing = self.chat.think_tags
        opened = self.chat.thought(request.prompt_ids, [], at_cap=False).status != "absent"
        closed = bool(content) or reason != "length"
        return ("" if opened else opening) + thought + (closing + content if closed else "")

    # ------------------------------------------------------------------------------------------------ what is there

    def _find_model(self) -> str:
        from openai import APIStatusError

        try:
            listed = self._wait(self._list_models())
        except APIStatusError as error:
            raise ThinkEditError(
                f"The server at {self.base_url} does not list its models ({error.status_code}).{ADDRESS} "
                "If so, name a model with --served-model."
            ) from None
        if len(listed) == 1:
            return listed[0]
        if not listed:
            raise UsageError(f"The server at {self.base_url} lists no models; name the one to ask with --served-model.")
        raise UsageError(
            f"The server at {self.base_url} has {len(listed)} models; choose with --served-model: {', '.join(listed)}."
        )

    async def _list_models(self) -> list[str]:
        from openai import APIStatusError

        with self._one_message(kept=(APIStatusError,)):
            return [str(model.id) async for model in self.client.models.list()]

    def _probe(self) -> bool:
        """Whether the server completes text, with which extras, and whether it puts a BOS token before it."""
        from openai import APIStatusError

        for extra in (EXACT | {"return_token_ids": True}, EXACT, {}):
            try:
                made = self._wait(self._one_token(self.served, extra, kept=(APIStatusError,)))
            except APIStatusError as error:
                status = error.status_code
                if status in (400, 422):
                    continue
                if status in (404, 405, 501):
                    break
                raise self._failed(error) from None
            self._extra = dict(extra)
            self._compare_counts(made, self.chat.prompt_ids(HELLO))
            return True
        self._extra, self.continues = {}, False
        self._wait(self._one_token(self.served, {}))  # else it is the model that is not there
        self.say(
            f"{self.base_url} only chats (/completions: {status}): the server renders the prompts, and cut thoughts stay "
            "without a forced answer"
        )
        return False

    async def _one_token(self, model: str, extra: dict[str, Any], kept: tuple[type[Exception], ...] = ()) -> Any:
        """What `model` answers to begin with: shows that it is there."""
        with self._one_message(kept):
            made = await self._ask(self.chat.prompt_ids(HELLO), HELLO, extra, model=model, max_tokens=1, temperature=0)
            _ = made.choices[0].finish_reason
            return made

    def _compare_counts(self, made: Any, prompt: list[int]) -> None:
        counted = getattr(made.usage, "prompt_tokens", None)
        if not isinstance(counted, int):
            return  # it does not say
        bos = self.chat.tokenizer.bos_token_id
        if counted == len(prompt) + 1 and bos is not None and prompt[0] == bos:
            self._drop_bos = True  # the server adds its own
        elif counted != len(prompt):
            self.say(
                f"the server counts {counted} tokens in a prompt in which the tokenizer here counts {len(prompt)}: "
                "another tokenizer, or tokens that it adds"
            )

    def _wait(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    @contextmanager
    def _one_message(self, kept: tuple[type[Exception], ...] = ()) -> Iterator[None]:
        """Around asking and reading an answer: says in one message what failed in the end; `kept` errors are the caller's."""
        from openai import OpenAIError

        try:
            yield
        except OpenAIError as error:
            if isinstance(error, kept):
                raise
            raise self._failed(error) from None
        except BODY_ERRORS as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> ThinkEditError:
        from openai import APIConnectionError, APIStatusError

        if isinstance(error, APIConnectionError):
            what = f"does not answer ({self.client.max_retries + 1} tries: {error}). Is it running?"
        elif isinstance(error, APIStatusError):
            hint = {
                401: " Set OPENAI_API_KEY.",
                404: " Is the model's name right (--served-model, --served-edited)?" + ADDRESS,
            }.get(error.status_code, "")
            what = f"refuses ({error.status_code}): {str(error.message)[:300]}{hint}"
        else:
            what = f"sends what is no answer of an OpenAI-compatible server.{ADDRESS}"
        return ThinkEditError(
            f"The server at {self.base_url} {what}\nWhat was finished is kept; the same command goes on from there."
        )
