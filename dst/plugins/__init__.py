"""Node and algorithm providers, DST's own and third parties', found with C{twisted.plugin.getPlugins}."""

from twisted.plugin import pluginPackagePaths

__path__.extend(pluginPackagePaths(__name__))
__all__: list[str] = []
