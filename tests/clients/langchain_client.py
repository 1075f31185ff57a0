"""LangChain's OpenAI classes against a server of the demo model: langchain_client.py ADDRESS."""

import sys

from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

where = {"base_url": sys.argv[1] + "/v1", "api_key": "none", "model": "austen"}

text = OpenAI(**where, max_tokens=12, temperature=0)
whole = text.invoke("She was")
assert whole and "".join(text.stream("She was")) == whole
assert text.batch(["She was", "He was"])[0] == whole

chat = ChatOpenAI(**where, max_tokens=12, temperature=0)
reply = chat.invoke("How do you do?").content
assert "".join(chunk.content for chunk in chat.stream("How do you do?")) == reply

embeddings = OpenAIEmbeddings(**where, check_embedding_ctx_length=False)
assert len(embeddings.embed_query("She was happy.")) == 256
assert len(embeddings.embed_documents(["a", "b"])) == 2
print("LangChain works")
