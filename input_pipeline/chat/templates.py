"""Chat templates: how the messages of a chat are written as one text.

A template is Jinja text, as transformers reads it from tokenizer_config.json or
chat_template.jinja. Those of KNOWN have names:

  plain    each message, then the end of a text, as T5's inputs and targets
  chatml   <|im_start|>user\\n...<|im_end|>\\n         OpenAI's; of many models
  llama2   <s>[INST] ... [/INST] ... </s>             LLaMA 2's published code
  llama3   <|start_header_id|>user<|end_header_id|>\\n\\n...<|eot_id|>
                                                      LLaMA 3's model card
"""

import functools
import json
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

from input_pipeline.chat.messages import Message, exchange
from input_pipeline.choices import unknown
from input_pipeline.config import DataConfig
from input_pipeline.sources import hashes, paths
from input_pipeline.tokenizers.interface import Tokenizer, start_id
from input_pipeline.tokenizers.settings import CHAT_TEMPLATE, CONFIG

OWN = 'own'  # in place of a name: the template of the tokenizer's files

_LLAMA2 = """\
{%- for message in messages -%}
  {%- set text = message['content'] | trim -%}
  {%- if message['role'] == 'system' -%}
  {%- elif message['role'] == 'user' -%}
    {%- if loop.index0 == 1 and messages[0]['role'] == 'system' -%}
      {%- set system = '<<SYS>>\\n' + messages[0]['content'] -%}
      {%- set text = system + '\\n<</SYS>>\\n\\n' + text -%}
    {%- endif -%}
    {{- (bos_token or '') + '[INST] ' + text + ' [/INST]' -}}
  {%- else -%}
    {{- ' ' + text + ' ' + eos_token -}}
  {%- endif -%}
{%- endfor -%}"""
_LLAMA3 = """\
{{- bos_token or '' -}}
{%- for message in messages -%}
  {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' -}}
  {{- message['content'] | trim + '<|eot_id|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
{%- endif -%}"""
_CHATML = """\
{%- for message in messages -%}
  {{- '<|im_start|>' + message['role'] + '\\n' -}}
  {{- message['content'] + '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- '<|im_start|>assistant\\n' -}}
{%- endif -%}"""
_PLAIN = """\
{%- for message in messages -%}
  {{- message['content'] + eos_token -}}
{%- endfor -%}"""
KNOWN = {
  'plain': _PLAIN,
  'chatml': _CHATML,
  'llama2': _LLAMA2,
  'llama3': _LLAMA3,
}
# The tokens that known templates need, beside BOS and EOS.
NEEDS = {
  'chatml': ('<|im_start|>', '<|im_end|>'),
  'llama3': ('<|start_header_id|>', '<|end_header_id|>', '<|eot_id|>'),
}
# Private characters of Unicode, which stand for the names of special tokens
# inside a message. The one after the last name stands before such characters
# of the message's own, as icon fonts have them.
_PRIVATE = 0xF0000


class Template:
  """A chat template with the tokenizer that reads what it writes.

  Attributes:
    name: of KNOWN, or the file.
    text: the Jinja text.
    markers: name -> id of each special token of the tokenizer.
    end: the id that ends an assistant's turn.
    fingerprint: a hash of the text.
  """

  def __init__(
    self, name: str, text: str, tokenizer: Tokenizer, bos: int | None = None
  ):
    """`bos` is the id of BOS where the tokenizer has none.

    Raises ValueError if the template does not suit chats or tokenizer.
    """
    self.name, self.text = name, text
    self.fingerprint = hashes.sha256(text.encode())
    self.markers = tokenizer.markers
    self._special = {
      f'{role}_token': tokenizer.piece(i)
      for role, i in (
        ('bos', bos if tokenizer.bos is None else tokenizer.bos),
        ('eos', tokenizer.eos),
        ('unk', tokenizer.unk),
        ('pad', tokenizer.pad),
      )
      if i is not None
    }
    missing = [x for x in NEEDS.get(name, ()) if x not in self.markers]
    if missing:
      raise ValueError(
        f'The chat template {name} needs the tokens {", ".join(missing)}, which'
        ' are no special tokens of data.tokenizer: take a tokenizer that has'
        " them, or data.chat_template='llama2' or '', which need none."
      )
    longest = sorted(self.markers, key=len, reverse=True)
    self.pattern = re.compile('|'.join(map(re.escape, longest)) or r'(?!)')
    self._names = [*self.markers]
    self._escape = chr(_PRIVATE + len(self._names))
    self._private = f'[{chr(_PRIVATE)}-{self._escape}]'
    self._compiled = _compiled(text, name)
    self.end = self._checked_end()

  def render(self, messages: Sequence[Message], asks: bool = False) -> str:
    """The text of a chat; `asks` opens the assistant's next turn.

    Names of special tokens inside a message are hidden: see `shown`.
    """
    hidden = [x | {'content': self._hidden(x['content'])} for x in messages]
    return self._compiled(
      messages=hidden, add_generation_prompt=asks, **self._special
    )

  def _hidden(self, text):
    text = re.sub(self._private, lambda found: self._escape + found[0], text)
    return self.pattern.sub(
      lambda found: chr(_PRIVATE + self._names.index(found[0])), text
    )

  def shown(self, text: str) -> str:
    """A part of a rendered text with what `render` has hidden in it."""

    def own(found):
      if found[0][0] == self._escape:
        return found[0][1:]
      return self._names[ord(found[0]) - _PRIVATE]

    return re.sub(f'{self._escape}?{self._private}', own, text)

  def answers(self, messages: Sequence[Message]) -> tuple[str, list]:
    """A chat's text, and where in it the assistant's turns stand.

    Each is (first, end): from the first character that the assistant writes to
    the end of the token that ends the turn.

    Raises:
      ValueError: the text of a part of the chat is not how the whole begins, or
        no special token ends a turn.
    """
    whole, found = self.render(messages), []
    for n, message in enumerate(messages):
      if message['role'] != 'assistant':
        continue
      before = self.render(messages[:n], asks=True)
      through = self.render(messages[: n + 1])
      if not through.startswith(before):
        raise ValueError(
          f'The chat template {self.name} writes a prompt in another way once'
          ' it is answered, so where the answer begins is unknown.'
        )
      content = self._hidden(message['content']).strip()
      at = max(through.find(content, len(before)), len(before))
      end = self.pattern.search(through, at)
      if not end:
        raise ValueError(
          f"The chat template {self.name} does not end an assistant's turn with"
          ' a special token of data.tokenizer, so a model would never stop:'
          ' write one, such as eos_token, after it.'
        )
      if not whole.startswith(through[: end.end()]):
        raise ValueError(
          f"The chat template {self.name} changes an assistant's turn once the"
          ' chat goes on: answers that are not the last cannot be learnt.'
        )
      found.append((len(before), end.end()))
    return whole, found

  def check_turns(self, chats: Iterable[Sequence[Message]], where: str) -> None:
    """Raises ValueError, naming `where`, if chats of several turns do not suit.

    The first of these chats is tried: a template may suit chats of one turn
    alone.
    """
    for chat in chats:
      if sum(message['role'] == 'assistant' for message in chat) < 2:
        continue
      try:
        self.answers(chat)
      except ValueError as error:
        several = f'{where} has chats of several turns.'
        raise ValueError(f'{several} {error}') from error
      return

  def _checked_end(self):
    whole, [(first, end)] = self.answers(exchange('Question', 'Answer'))
    *_, last = self.pattern.finditer(whole, first, end)
    return self.markers[last[0]]


def load(
  name: str, tokenizer: Tokenizer, folder: str = '', bos: int | None = None
) -> Template:
  """The template that data.chat_template names; '': plain.

  Args:
    name: of KNOWN, 'own' or the path of a Jinja file.
    tokenizer: of the run.
    folder: of the tokenizer's files, data.tokenizer; or a run's.
    bos: see Template.

  Raises:
    ValueError: there is no such template, or it does not suit.
  """
  name = name or 'plain'
  if name in KNOWN:
    return Template(name, KNOWN[name], tokenizer, bos)
  if name == OWN:
    text = read(folder)
    if not text:
      raise ValueError(
        f"data.chat_template='own', but data.tokenizer={folder!r} has no"
        f' {CHAT_TEMPLATE}, and no chat_template in {CONFIG}: name one of'
        f' {", ".join(KNOWN)}, or a file.'
      )
    return Template(OWN, text, tokenizer, bos)
  if not paths.exists(name):
    hint = unknown('data.chat_template', name, (*KNOWN, OWN))
    raise ValueError(f'{hint} There is no file of this name either.')
  return Template(name, paths.read(name).decode(), tokenizer, bos)


def prepare(
  config: DataConfig, tokenizer: Tokenizer, workdir: str | None
) -> Template:
  """The run's template; one that is a file is kept in the workdir.

  Its BOS is what rows begin with. Raises ValueError as `load` does.
  """
  name, kept = (
    config.chat_template,
    workdir and os.path.join(workdir, CHAT_TEMPLATE),
  )
  bos = start_id(tokenizer, config) if config.start == 'bos' else None
  if not name or name in KNOWN or not kept:
    return load(name, tokenizer, config.tokenizer, bos)
  if paths.exists(kept):
    return Template(name, paths.read(kept).decode(), tokenizer, bos)
  found = load(name, tokenizer, config.tokenizer, bos)
  paths.make_folder(workdir)
  paths.write(kept, found.text.encode())
  return found


def read(folder: str) -> str:
  """The template beside a tokenizer's files; '' if there is none.

  chat_template.jinja comes first, as in transformers. Of several named ones in
  tokenizer_config.json it is 'default'.
  """
  if folder and not paths.is_folder(folder):
    folder = os.path.dirname(folder)
  if paths.exists(path := os.path.join(folder, CHAT_TEMPLATE)):
    return paths.read(path).decode()
  if not paths.exists(path := os.path.join(folder, CONFIG)):
    return ''
  found = json.loads(paths.read(path)).get('chat_template') or ''
  if isinstance(found, list):
    named = {x.get('name'): x.get('template') for x in found}
    found = named.get('default') or ''
  return found


@functools.cache
def _compiled(text: str, name: str) -> Any:
  """(**names) -> the text of a Jinja template, in a sandbox.

  The names are those that transformers gives a template.
  """
  import jinja2
  from jinja2 import ext, nodes, sandbox

  class Generation(ext.Extension):
    """{% generation %} marks what the assistant writes; it is read as it is."""

    tags = {'generation'}

    def parse(self, parser):
      line = next(parser.stream).lineno
      body = parser.parse_statements(('name:endgeneration',), drop_needle=True)
      return nodes.Scope(body).set_lineno(line)

  def refuse(message):
    raise ValueError(f'The chat template {name} says: {message}')

  environment = sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=[Generation, ext.loopcontrols],
  )
  environment.filters['tojson'] = lambda x, **options: json.dumps(
    x, ensure_ascii=False, **options
  )
  environment.globals['raise_exception'] = refuse
  try:
    compiled = environment.from_string(text)
  except jinja2.TemplateSyntaxError as error:
    raise ValueError(
      f'The chat template {name} is no Jinja: {error.message}, line'
      f' {error.lineno}.'
    ) from error

  def render(**names):
    try:
      return compiled.render(**names)
    except jinja2.TemplateError as error:
      raise ValueError(f'The chat template {name} fails: {error}') from error

  return render
